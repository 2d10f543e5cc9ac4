/* futex(2) FUTEX_WAIT_BITSET with an absolute timeout times out at its time. */
#include "blocked.h"
#include <linux/futex.h>

static void call(void)
{
    static uint32_t word = 7;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 2;
    double begin = now();
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 7, &end, NULL, FUTEX_BITSET_MATCH_ANY) == -1);
    CHECK_EQ(errno, ETIMEDOUT);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_futex, 0, call);
}

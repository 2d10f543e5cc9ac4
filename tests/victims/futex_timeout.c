/* futex(2) FUTEX_WAIT with a relative timeout times out at its time. */
#include "blocked.h"
#include <linux/futex.h>

static void call(void)
{
    static uint32_t word = 7;
    struct timespec asked = {2, 0};
    double begin = now();
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &asked) == -1);
    CHECK_EQ(errno, ETIMEDOUT);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_futex, 0, call);
}

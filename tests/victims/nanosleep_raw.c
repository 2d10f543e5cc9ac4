/* The old system call nanosleep continues with its remaining time. */
#include "blocked.h"

static void call(void)
{
    struct timespec asked = {2, 0};
    double begin = now();
    CHECK(syscall(SYS_nanosleep, &asked, NULL) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_nanosleep, 0, call);
}

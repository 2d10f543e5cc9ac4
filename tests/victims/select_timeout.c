/* select(2) with a timeout times out at its time. */
#include "blocked.h"

static void call(void)
{
    struct timeval asked = {2, 0};
    double begin = now();
    CHECK(syscall(SYS_select, 0, NULL, NULL, NULL, &asked) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_select, 0, call);
}

/* usleep(3) continues with its remaining time. */
#include "blocked.h"

static void call(void)
{
    double begin = now();
    CHECK(usleep(2000000) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_clock_nanosleep, 0, call);
}

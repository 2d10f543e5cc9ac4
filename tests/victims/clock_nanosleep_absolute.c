/* clock_nanosleep(2) with an absolute time does not return early. */
#include "blocked.h"

static void call(void)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 2;
    double begin = now();
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_clock_nanosleep, 0, call);
}

/* nanosleep(2) continues with its remaining time, and does not end early. */
#include "blocked.h"

static void call(void)
{
    struct timespec asked = {2, 0};
    double begin = now();
    CHECK(nanosleep(&asked, NULL) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_clock_nanosleep, 0, call);
}

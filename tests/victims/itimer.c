/*
 * ITIMER_REAL fires after its remaining time, and not early. ITIMER_VIRTUAL and ITIMER_PROF keep
 * their value and interval.
 */
#include "victim.h"
#include <sys/time.h>

static volatile int fired;

static void handler(int n)
{
    fired = 1;
}

int main(void)
{
    struct itimerval real = {{0, 0}, {2, 0}}, slow = {{7, 500000}, {5000, 0}}, seen;
    signal(SIGALRM, handler);
    double begin = now();
    CHECK(setitimer(ITIMER_VIRTUAL, &slow, NULL) == 0 && setitimer(ITIMER_PROF, &slow, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &real, NULL) == 0);
    checkpoint_here(1);
    for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
        CHECK(getitimer(which, &seen) == 0);
        CHECK(seen.it_value.tv_sec > 4900 && seen.it_value.tv_sec <= 5000);
        CHECK(seen.it_interval.tv_sec == 7 && seen.it_interval.tv_usec == 500000);
    }
    while (!fired)
        pause_briefly();
    CHECK(now() - begin >= 2.0 - 0.01 && now() - begin < 120);
    return done();
}

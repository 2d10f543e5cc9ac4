/*
 * POSIX timers keep their ids, signals, values, intervals and clocks. One fires after its remaining
 * time.
 */
#include "victim.h"

static volatile int fired;

static void handler(int n, siginfo_t *info, void *context)
{
    fired = info->si_value.sival_int;
}

int main(void)
{
    timer_t gap, soon, late;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    struct itimerspec two = {{0, 0}, {2, 0}}, long_one = {{3, 14}, {5000, 0}}, seen;
    CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    event.sigev_value.sival_int = 41;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &gap) == 0);
    event.sigev_value.sival_int = 42;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &soon) == 0);
    event.sigev_notify = SIGEV_NONE;
    CHECK(timer_create(CLOCK_REALTIME, &event, &late) == 0 && timer_delete(gap) == 0);
    double begin = now();
    CHECK(timer_settime(soon, 0, &two, NULL) == 0 && timer_settime(late, 0, &long_one, NULL) == 0);
    checkpoint_here(1);
    CHECK(timer_gettime(late, &seen) == 0);
    CHECK(seen.it_value.tv_sec > 4900 && seen.it_value.tv_sec <= 5000 && seen.it_interval.tv_sec == 3 && seen.it_interval.tv_nsec == 14);
    CHECK(timer_gettime(gap, &seen) == -1);
    while (!fired)
        pause_briefly();
    CHECK_EQ(fired, 42);
    CHECK(now() - begin >= 2.0 - 0.01 && now() - begin < 120);
    CHECK_EQ(timer_getoverrun(soon), 0);
    CHECK(timer_delete(soon) == 0 && timer_delete(late) == 0);
    return done();
}

/*
 * POSIX timers with a high id, on CPU clocks of the process and of threads, for a thread, and for a
 * thread that has ended.
 */
#include "victim.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { SIGNAL = 40, LONG = 5000 };

static volatile int leave, burn, got;
static volatile pid_t tids[2];

static void *lives(void *at)
{
    sigset_t set;
    tids[(long)at] = gettid();
    for (sigemptyset(&set), sigaddset(&set, SIGNAL); !(at ? leave : 0) && !got;) {
        struct timespec ms = {0, 1000000};
        if (sigtimedwait(&set, NULL, &ms) == SIGNAL)
            got = gettid();
        while (burn)
            ;
    }
    return NULL;
}

static timer_t timer_on(clockid_t clock, pid_t tid, double seconds)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = tid ? SIGEV_THREAD_ID : SIGEV_NONE, .sigev_signo = SIGNAL};
    struct itimerspec spec = {.it_value = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)}};
    event.sigev_notify_thread_id = tid;
    CHECK(timer_create(clock, &event, &timer) == 0 && timer_settime(timer, 0, &spec, NULL) == 0);
    return timer;
}

static double left(timer_t timer)
{
    struct itimerspec spec;
    CHECK(timer_gettime(timer, &spec) == 0);
    return spec.it_value.tv_sec + spec.it_value.tv_nsec / 1e9;
}

static double time_of(clockid_t clock)
{
    struct timespec time;
    CHECK(clock_gettime(clock, &time) == 0);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void)
{
    sigset_t set;
    timer_t timer;
    clockid_t clock;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGNAL) == 0 && sigaddset(&set, SIGNAL + 1) == 0);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    /* As a program that makes and deletes timers: the ids ascend. */
    for (int n = 0; n < 100; n++)
        CHECK(timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0 && timer_delete(timer) == 0);
    pthread_t stays = start(lives, (void *)0), ends = start(lives, (void *)1);
    while (!tids[0] || !tids[1])
        pause_briefly();
    timer_t mute = timer_on(CLOCK_MONOTONIC, tids[1], LONG), soon = timer_on(CLOCK_MONOTONIC, tids[1], 1);
    leave = 1;
    join(ends);
    /* This one has expired: its signal is pending. */
    timer_t expired;
    siginfo_t info;
    sigset_t pending;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGNAL + 1, .sigev_value.sival_int = 7};
    struct itimerspec soonest = {.it_interval = {LONG, 0}, .it_value = {0, 1}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &expired) == 0 && timer_settime(expired, 0, &soonest, NULL) == 0);
    do
        CHECK(sigpending(&pending) == 0);
    while (!sigismember(&pending, SIGNAL + 1));
    timer_t own = timer_on(CLOCK_THREAD_CPUTIME_ID, 0, LONG), all = timer_on(CLOCK_PROCESS_CPUTIME_ID, 0, LONG);
    CHECK(pthread_getcpuclockid(stays, &clock) == 0);
    timer_t others = timer_on(clock, 0, LONG), alarm = timer_on(CLOCK_BOOTTIME, tids[0], 3);

    checkpoint_here(1);

    CHECK((int)(intptr_t)mute >= 100 && left(mute) > 4000 && left(mute) < LONG);
    /* Each timer has run as long as its own clock: no longer than the outer two readings say. */
    timer_t timers[] = {own, others, all};
    clockid_t clocks[] = {CLOCK_THREAD_CPUTIME_ID, clock, CLOCK_PROCESS_CPUTIME_ID};
    double seen[3][6];
    for (int n = 0; n < 3; n++)
        seen[n][0] = time_of(clocks[n]), seen[n][1] = left(timers[n]), seen[n][2] = time_of(clocks[n]);
    for (burn = 1; time_of(clock) < seen[1][2] + 0.1;)
        pause_briefly();
    burn = 0;
    for (int n = 0; n < 3; n++) {
        seen[n][3] = time_of(clocks[n]), seen[n][4] = left(timers[n]), seen[n][5] = time_of(clocks[n]);
        double passed = seen[n][1] - seen[n][4], tiny = 1e-6;
        CHECK(passed >= seen[n][3] - seen[n][2] - tiny && passed <= seen[n][5] - seen[n][0] + tiny);
    }
    CHECK(sigdelset(&set, SIGNAL) == 0);
    CHECK(sigtimedwait(&set, &info, &(struct timespec){0, 0}) == SIGNAL + 1 && info.si_code == SI_TIMER);
    CHECK(info.si_value.sival_int == 7 && info.si_timerid == (int)(intptr_t)expired && info.si_overrun == 0);
    CHECK(left(expired) > 4000);
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGNAL) == 0);
    join(stays);
    CHECK(got == tids[0] && left(alarm) == 0);
    while (left(soon) > 0)
        pause_briefly();
    CHECK(sigtimedwait(&set, NULL, &(struct timespec){0, 0}) < 0 && errno == EAGAIN);
    return done();
}

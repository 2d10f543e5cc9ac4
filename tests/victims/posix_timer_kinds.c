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

int main(void)
{
    sigset_t set;
    timer_t timer;
    clockid_t clock;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGNAL) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    /* As a program that makes and deletes timers: the ids ascend. */
    for (int n = 0; n < 100; n++)
        CHECK(timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0 && timer_delete(timer) == 0);
    pthread_t stays = start(lives, (void *)0), ends = start(lives, (void *)1);
    while (!tids[0] || !tids[1])
        pause_briefly();
    timer_t mute = timer_on(CLOCK_MONOTONIC, tids[1], LONG), soon = timer_on(CLOCK_MONOTONIC, tids[1], 1);
    leave = 1;
    join(ends);
    timer_t own = timer_on(CLOCK_THREAD_CPUTIME_ID, 0, LONG), all = timer_on(CLOCK_PROCESS_CPUTIME_ID, 0, LONG);
    CHECK(pthread_getcpuclockid(stays, &clock) == 0);
    timer_t others = timer_on(clock, 0, LONG), alarm = timer_on(CLOCK_BOOTTIME, tids[0], 3);

    checkpoint_here(1);

    CHECK((int)(intptr_t)mute >= 100 && left(mute) > 4000 && left(mute) < LONG);
    double before[] = {left(own), left(others), left(all)}, begin = now();
    for (burn = 1; now() - begin < 0.5;)
        pause_briefly();
    burn = 0;
    double passed[] = {before[0] - left(own), before[1] - left(others), before[2] - left(all)};
    /* The other thread has used nearly all of the time. */
    CHECK(passed[0] < passed[1] && passed[1] > 0.1 && passed[2] >= passed[1]);
    join(stays);
    CHECK(got == tids[0] && left(alarm) == 0);
    while (left(soon) > 0)
        pause_briefly();
    CHECK(sigtimedwait(&set, NULL, &(struct timespec){0, 0}) < 0 && errno == EAGAIN);
    return done();
}

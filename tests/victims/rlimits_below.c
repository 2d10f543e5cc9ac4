/*
 * Limits below what the process has already: queued signals, timers, threads, locked memory,
 * descriptors, the size of a file. They forbid more, and take nothing away.
 */
#include "victim.h"
#include <sys/resource.h>

enum { SIGNALS = 20, TIMERS = 4, FD = 90 };

static const struct {
    int resource;
    rlim_t limit;
} limits[] = {{RLIMIT_SIGPENDING, 2}, {RLIMIT_NPROC, 1}, {RLIMIT_MEMLOCK, 4096}, {RLIMIT_NOFILE, 10}, {RLIMIT_FSIZE, 8192}};

static void *sleeps(void *unused)
{
    for (;;)
        pause();
    return unused;
}

int main(void)
{
    sigset_t set;
    siginfo_t info;
    timer_t timers[TIMERS];
    pthread_t thread;
    struct itimerspec later = {{0, 0}, {5000, 0}}, seen;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGRTMIN + 1) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int n = 0; n < SIGNALS; n++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = n}) == 0);
    for (int n = 0; n < TIMERS; n++)
        CHECK(timer_create(CLOCK_MONOTONIC, NULL, &timers[n]) == 0 && timer_settime(timers[n], 0, &later, NULL) == 0);
    char *locked = map(4 * 4096, RW);
    CHECK(mlock(locked, 4 * 4096) == 0);
    start(sleeps, NULL);
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(dup2(fd, FD) == FD && ftruncate(fd, 1 << 20) == 0);
    for (unsigned n = 0; n < sizeof limits / sizeof *limits; n++)
        CHECK(setrlimit(limits[n].resource, &(struct rlimit){limits[n].limit, limits[n].limit}) == 0);

    checkpoint_here(1);

    for (unsigned n = 0; n < sizeof limits / sizeof *limits; n++) {
        struct rlimit now;
        CHECK(getrlimit(limits[n].resource, &now) == 0);
        CHECK_EQ(now.rlim_cur, limits[n].limit);
        CHECK_EQ(now.rlim_max, limits[n].limit);
    }
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 0}) < 0 && errno == EAGAIN);
    CHECK(pthread_create(&thread, NULL, sleeps, NULL) == EAGAIN);
    CHECK(mlock(map(4096, RW), 4096) < 0 && errno == ENOMEM);
    CHECK(dup2(fd, FD + 1) < 0 && errno == EBADF);
    for (int n = 0; n < TIMERS; n++)
        CHECK(timer_gettime(timers[n], &seen) == 0 && seen.it_value.tv_sec > 4000 && timer_delete(timers[n]) == 0);
    for (int n = 0; n < SIGNALS; n++) {
        CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN + 1);
        CHECK_EQ(info.si_value.sival_int, n);
    }
    return done();
}

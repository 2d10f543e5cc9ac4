/*
 * In a time namespace whose clocks are far ahead of those of the machine. They never go back, and
 * absolute sleeps and timers end on time.
 */
#include "victim.h"
#include <sys/wait.h>

enum { AHEAD = 10000000 };

static int ended(int sig)
{
    siginfo_t info;
    sigset_t set;
    struct timespec limit = {30, 0};
    sigemptyset(&set);
    sigaddset(&set, sig);
    return sigtimedwait(&set, &info, &limit) == sig;
}

static void enter(void)
{
    CHECK(unshare(CLONE_NEWTIME) == 0);
    int fd = open("/proc/self/timens_offsets", O_WRONLY);
    CHECK(fd >= 0 && dprintf(fd, "monotonic %d 0\nboottime %d 0\n", AHEAD, AHEAD) > 0 && close(fd) == 0);
    fd = open("/proc/self/ns/time_for_children", O_RDONLY);
    CHECK(fd >= 0 && setns(fd, CLONE_NEWTIME) == 0 && close(fd) == 0);
}

/* The clock by the vDSO and by the system call. */
static double both(void)
{
    struct timespec raw;
    double fast = now();
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &raw) == 0);
    CHECK(raw.tv_sec + raw.tv_nsec / 1e9 >= fast && now() >= raw.tv_sec + raw.tv_nsec / 1e9 - 1e-6);
    return fast;
}

int main(void)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarm, NULL) == 0);
    enter();
    double before = both();
    CHECK(before >= AHEAD);
    for (int n = 1; n <= 2; n++) {
        timer_t timer;
        struct itimerspec at = {.it_value = {.tv_sec = (time_t)now() + 2}};
        CHECK(timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0);
        CHECK(timer_settime(timer, TIMER_ABSTIME, &at, NULL) == 0);
        checkpoint_here(n);
        double after = both();
        CHECK(after >= before && after < before + AHEAD / 2);
        CHECK(ended(SIGALRM) && now() >= at.it_value.tv_sec && timer_delete(timer) == 0);
        struct timespec wake = {.tv_sec = (time_t)now() + 1};
        CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == 0 && now() >= wake.tv_sec);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(both() >= before ? 0 : 1);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        before = now();
    }
    return done();
}

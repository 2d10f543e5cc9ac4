/*
 * The main thread has ended. Signals are pending for the process (from itself, with a value, and
 * from a timer) and one for the thread alone.
 */
#include "victim.h"
#include <sys/time.h>

static siginfo_t take(int signal)
{
    struct timespec at_once = {0, 0};
    siginfo_t info;
    sigset_t set;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, signal) == 0);
    CHECK_EQ(sigtimedwait(&set, &info, &at_once), signal);
    return info;
}

static void *body(void *arg)
{
    struct itimerval soon = {.it_value = {.tv_usec = 1000}};
    char shared[64], own[64];
    sigset_t pending;
    await_leader_end();
    CHECK(kill(getpid(), SIGUSR2) == 0 && raise(SIGUSR1) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
    for (int value = 0; value < 3; value++)
        CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){value}) == 0);
    do
        pause_briefly();
    while (sigpending(&pending) == 0 && !sigismember(&pending, SIGALRM));
    strcpy(shared, proc_line("/proc/thread-self/status", "ShdPnd:"));
    strcpy(own, proc_line("/proc/thread-self/status", "SigPnd:"));

    checkpoint_here(1);

    CHECK(strcmp(shared, proc_line("/proc/thread-self/status", "ShdPnd:")) == 0);
    CHECK(strcmp(own, proc_line("/proc/thread-self/status", "SigPnd:")) == 0);
    siginfo_t other = take(SIGUSR2), mine = take(SIGUSR1);
    /* The C library reports SI_TKILL as SI_USER too. */
    CHECK(other.si_code == SI_USER && other.si_pid == getpid() && mine.si_code == SI_USER && mine.si_pid == getpid());
    CHECK_EQ(take(SIGALRM).si_code, SI_KERNEL);
    for (int value = 0; value < 3; value++)
        CHECK_EQ(take(SIGRTMIN).si_value.sival_int, value);
    exit(done());
}

int main(void)
{
    sigset_t all;
    CHECK(sigfillset(&all) == 0 && sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    start(body, NULL);
    pthread_exit(NULL);
}

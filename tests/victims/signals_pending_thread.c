/*
 * A signal that is pending for one thread stays with that thread. A signal that is pending for the
 * process is visible in every thread.
 */
#include "victim.h"

static volatile int ready, released;

static int pending(int n)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, n);
}

static void *body(void *arg)
{
    CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
    CHECK(pthread_sigqueue(pthread_self(), SIGRTMAX, (union sigval){.sival_int = 9}) == 0);
    ready = 1;
    while (!released)
        sched_yield();
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    CHECK(pending(SIGUSR1) && pending(SIGRTMAX) && pending(SIGHUP));
    CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMAX);
    CHECK_EQ(info.si_value.sival_int, 9);
    return arg;
}

int main(void)
{
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    pthread_t thread = start(body, NULL);
    while (!ready)
        sched_yield();
    kill(getpid(), SIGHUP);
    checkpoint_here(1);
    CHECK(!pending(SIGUSR1) && !pending(SIGRTMAX) && pending(SIGHUP));
    released = 1;
    join(thread);
    return done();
}

/*
 * Attributes of a thread, not of the process, return to the same thread: nice, affinity, timer
 * slack, signal mask.
 */
#include "victim.h"
#include <sys/resource.h>

static volatile int ready, released;

static void *body(void *arg)
{
    sigset_t mask, seen;
    cpu_set_t cpus, cpus_seen;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    CHECK(setpriority(PRIO_PROCESS, gettid(), 7) == 0);
    CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
    CHECK(prctl(PR_SET_TIMERSLACK, 123456) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!released)
        pause_briefly();
    CHECK_EQ(getpriority(PRIO_PROCESS, gettid()), 7);
    CHECK(sched_getaffinity(0, sizeof cpus_seen, &cpus_seen) == 0 && CPU_EQUAL(&cpus, &cpus_seen));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 123456);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen) == 0 && sigismember(&seen, SIGUSR2) && !sigismember(&seen, SIGUSR1));
    return NULL;
}

int main(void)
{
    cpu_set_t cpus, cpus_seen;
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    pthread_t thread = start(body, NULL);
    while (ready < 1)
        sched_yield();
    checkpoint_here(1);
    released = 1;
    join(thread);
    CHECK_EQ(getpriority(PRIO_PROCESS, gettid()), 0);
    CHECK(sched_getaffinity(0, sizeof cpus_seen, &cpus_seen) == 0 && CPU_EQUAL(&cpus, &cpus_seen));
    CHECK(prctl(PR_GET_TIMERSLACK) != 123456);
    return done();
}

/*
 * sigwaitinfo(2) without a timeout takes a queued signal that is sent after the checkpoint, with
 * its value.
 */
#include "victim.h"

static pid_t tid; /* written once by the thread, polled by main */

static void *body(void *arg)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    __atomic_store_n(&tid, gettid(), __ATOMIC_SEQ_CST);
    int got;
    while ((got = sigwaitinfo(&set, &info)) == -1 && errno == EINTR) /* as signal(7) warns */
        ;
    CHECK_EQ(got, SIGRTMIN + 5);
    return info.si_value.sival_ptr;
}

int main(void)
{
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    pthread_t thread = start(body, NULL);
    while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
        sched_yield();
    wait_blocked(tid, SYS_rt_sigtimedwait);
    checkpoint_here(1);
    CHECK(sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_ptr = &tid}) == 0);
    CHECK(join(thread) == &tid);
    return done();
}

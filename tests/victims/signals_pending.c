/*
 * Pending signals of the process and of a thread: standard signals once, and every queued real-time
 * signal, in order and with its value.
 */
#include "victim.h"

static int take(int n, siginfo_t *info)
{
    sigset_t set;
    struct timespec at_once = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, n);
    /* The C library turns SI_TKILL into SI_USER. */
    return syscall(SYS_rt_sigtimedwait, &set, info, &at_once, 8);
}

int main(void)
{
    siginfo_t info;
    sigset_t all, pending, again;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGTRAP);
    for (int n = 0; n < 40; n++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = n}) == 0);
    CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 4, (union sigval){.sival_ptr = &info}) == 0);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2) == 0);
    sigpending(&pending);
    checkpoint_here(1);
    sigpending(&again);
    CHECK(memcmp(&pending, &again, 8) == 0);
    CHECK_EQ(take(SIGUSR1, &info), SIGUSR1);
    CHECK_EQ(info.si_code, SI_USER);
    CHECK_EQ(info.si_pid, getpid());
    CHECK_EQ(take(SIGTRAP, &info), SIGTRAP);
    for (int n = 0; n < 40; n++) {
        CHECK_EQ(take(SIGRTMIN + 3, &info), SIGRTMIN + 3);
        CHECK_EQ(info.si_value.sival_int, n);
        CHECK_EQ(info.si_code, SI_QUEUE);
    }
    CHECK_EQ(take(SIGRTMIN + 3, &info), -1);
    CHECK_EQ(take(SIGRTMIN + 4, &info), SIGRTMIN + 4);
    CHECK(info.si_value.sival_ptr == &info);
    CHECK_EQ(take(SIGUSR2, &info), SIGUSR2);
    CHECK_EQ(info.si_code, SI_TKILL);
    CHECK_EQ(take(SIGUSR2, &info), -1);
    return done();
}

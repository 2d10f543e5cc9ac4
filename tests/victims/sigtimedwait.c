/*
 * sigtimedwait(2) of blocked signals times out at its time, or ends with EINTR as signal(7) warns.
 */
#include "blocked.h"

static void call(void)
{
    sigset_t set, old;
    siginfo_t info;
    struct timespec asked = {2, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
    double begin = now();
    int got;
    /*
     * signal(7): sigtimedwait may end with EINTR after a stop. The caller then calls it again, as
     * every caller must.
     */
    while ((got = sigtimedwait(&set, &info, &asked)) == -1 && errno == EINTR) {
        double left = begin + ASKED - now();
        asked.tv_sec = left > 0 ? (long)left : 0;
        asked.tv_nsec = left > 0 ? (long)((left - asked.tv_sec) * 1e9) : 0;
    }
    CHECK_EQ(got, -1);
    CHECK_EQ(errno, EAGAIN);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_rt_sigtimedwait, 0, call);
}

/*
 * sigsuspend(2): the temporary signal mask is in force during the wait, and the old mask returns
 * afterwards.
 */
#include "blocked.h"

static void call(void)
{
    sigset_t old, none, seen;
    sigemptyset(&old);
    sigaddset(&old, SIGUSR1);
    sigaddset(&old, SIGHUP);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    sigemptyset(&none);
    CHECK(sigsuspend(&none) == -1); /* only the temporary mask lets the signal through */
    CHECK_EQ(errno, EINTR);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen) == 0);
    CHECK(memcmp(&old, &seen, 8) == 0);
}

int main(void)
{
    return blocked_in(SYS_rt_sigsuspend, SIGUSR1, call);
}

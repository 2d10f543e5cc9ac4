/* sigsuspend(2): the swapped mask is in force while it waits, the old one comes back behind it. */
#include "blocked.h"

static void call(void)
{
    sigset_t old, none, seen;
    sigemptyset(&old);
    sigaddset(&old, SIGUSR1);
    sigaddset(&old, SIGHUP);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    sigemptyset(&none);
    CHECK(sigsuspend(&none) == -1); /* only the swapped mask lets the signal through */
    CHECK_EQ(errno, EINTR);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen) == 0);
    CHECK(memcmp(&old, &seen, 8) == 0);
}

int main(void)
{
    return blocked_in(SYS_rt_sigsuspend, SIGUSR1, call);
}

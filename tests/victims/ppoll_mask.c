/*
 * ppoll(2) with a temporary signal mask: it is in force during the wait, and the old mask returns
 * afterwards.
 */
#include "blocked.h"
#include <poll.h>

static void call(void)
{
    sigset_t old, none, seen;
    struct timespec asked = {5000, 0};
    sigemptyset(&old);
    sigaddset(&old, SIGUSR1);
    sigaddset(&old, SIGHUP);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    sigemptyset(&none);
    CHECK(ppoll(NULL, 0, &asked, &none) == -1);
    CHECK_EQ(errno, EINTR);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen) == 0);
    CHECK(memcmp(&old, &seen, 8) == 0);
}

int main(void)
{
    return blocked_in(SYS_ppoll, SIGUSR1, call);
}

/*
 * RLIMIT_SIGPENDING of 0, so no signal can be queued. A signal that is pending without sender
 * information stays pending, and no extra signal arrives.
 */
#include "victim.h"
#include <sys/resource.h>

static volatile sig_atomic_t came;

static void count(int signal)
{
    came++;
}

int main(void)
{
    struct rlimit none = {0, 0}, seen;
    struct timespec at_once = {0, 0};
    sigset_t set;
    siginfo_t info;
    for (int number = 1; number < SIGRTMIN; number++)
        signal(number, count);
    CHECK(setrlimit(RLIMIT_SIGPENDING, &none) == 0);
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);

    checkpoint_here(1);

    CHECK_EQ(came, 0);
    CHECK(getrlimit(RLIMIT_SIGPENDING, &seen) == 0 && seen.rlim_cur == 0 && seen.rlim_max == 0);
    CHECK_EQ(sigtimedwait(&set, &info, &at_once), SIGUSR1);
    CHECK(info.si_code == SI_USER && info.si_pid == 0);
    return done();
}

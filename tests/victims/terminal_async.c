/*
 * Signal-driven input (O_ASYNC, F_SETOWN, F_SETSIG) of the terminal on descriptor 3. The harness
 * opens the terminal, and types a line at the end.
 */
#include "victim.h"

static volatile int told, through, code;

static void handler(int signal, siginfo_t *info, void *unused)
{
    (void)signal, (void)unused;
    code = info->si_code, through = info->si_fd, told++;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    char line[16];
    CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
    signal(SIGHUP, SIG_IGN); /* killing a session leader hangs up its terminal */
    CHECK(fcntl(3, F_SETOWN, getpid()) == 0 && fcntl(3, F_SETSIG, SIGRTMIN) == 0);
    CHECK(fcntl(3, F_SETFL, fcntl(3, F_GETFL) | O_ASYNC) == 0);
    int flags = fcntl(3, F_GETFL), shares = dup(3);

    checkpoint_here(1);

    CHECK_EQ(fcntl(3, F_GETFL), flags);
    CHECK(fcntl(shares, F_GETOWN) == getpid() && fcntl(3, F_GETSIG) == SIGRTMIN);
    CHECK(write(1, "listening\n", 10) == 10);
    while (!told)
        pause_briefly();
    CHECK(code == POLL_IN && through == 3 && read(3, line, sizeof line) == 6 && memcmp(line, "typed\n", 6) == 0);
    return done();
}

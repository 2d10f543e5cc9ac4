/*
 * signalfd(2): sets of signals, signals that wait to be read from it with their values, and a
 * thread that waits in read.
 */
#include "victim.h"
#include <sys/signalfd.h>

static int waited;
static volatile pid_t waiter;

static sigset_t set_of(int one, int other)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, one);
    sigaddset(&set, other);
    return set;
}

static void *waits(void *unused)
{
    struct signalfd_siginfo info;
    waiter = gettid();
    CHECK(read(waited, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR2 && info.ssi_pid == getpid());
    return unused;
}

int main(void)
{
    struct signalfd_siginfo infos[4];
    sigset_t all, first = set_of(SIGUSR1, 64), second = set_of(SIGUSR2, SIGUSR2), none;
    sigemptyset(&none);
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    int queue = signalfd(-1, &first, SFD_NONBLOCK), empty = signalfd(-1, &none, SFD_NONBLOCK | SFD_CLOEXEC);
    int again = dup(queue), full = signalfd(-1, &all, 0);
    waited = signalfd(-1, &first, 0);
    CHECK(queue >= 0 && empty >= 0 && again >= 0 && full >= 0 && signalfd(waited, &second, 0) == waited);
    pthread_t thread = start(waits, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_read);
    for (int n = 0; n < 2; n++)
        CHECK(sigqueue(getpid(), 64, (union sigval){.sival_int = 100 + n}) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);

    checkpoint_here(1);

    CHECK(fcntl(queue, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(full, F_GETFL) == O_RDWR);
    CHECK(fcntl(empty, F_GETFD) == FD_CLOEXEC && fcntl(again, F_GETFD) == 0);
    CHECK(read(empty, infos, sizeof infos) == -1 && errno == EAGAIN);
    CHECK_EQ(read(again, infos, sizeof infos), 3 * sizeof infos[0]);
    CHECK(infos[0].ssi_signo == SIGUSR1 && infos[0].ssi_pid == getpid());
    for (int n = 0; n < 2; n++)
        CHECK(infos[1 + n].ssi_signo == 64 && infos[1 + n].ssi_int == 100 + n);
    CHECK(read(queue, infos, sizeof infos) == -1 && errno == EAGAIN);
    /* Both descriptors are one object: a new set holds for the other too. */
    sigset_t other = set_of(SIGHUP, SIGHUP);
    CHECK(signalfd(queue, &other, 0) == queue && kill(getpid(), SIGHUP) == 0);
    CHECK(read(again, infos, sizeof infos) == sizeof infos[0] && infos[0].ssi_signo == SIGHUP);
    CHECK(kill(getpid(), SIGTERM) == 0);
    CHECK(read(full, infos, sizeof infos[0]) == sizeof infos[0] && infos[0].ssi_signo == SIGTERM);
    wait_blocked(waiter, SYS_read);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    join(thread);
    return done();
}

/*
 * clone(CLONE_VM | CLONE_SIGHAND): two processes share one table of handlers. Signal masks, pending
 * signals and ids belong to each process.
 */
#include "tree.h"

static int child(void *arg)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && raise(SIGUSR2) == 0);
    over_checkpoint((int)(long)arg);
    CHECK(sigpending(&set) == 0 && sigismember(&set, SIGUSR2));
    count_signals(SIGHUP);
    board->word[0] = 1;
    await_turn(2);
    struct sigaction action;
    CHECK(sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    CHECK(kill(getpid(), SIGTERM) == 0);
    _exit(5);
}

int main(void)
{
    board_make();
    char *stack = map(65536, RW);
    count_signals(SIGUSR2);
    pid_t pid = clone(child, stack + 65536, CLONE_VM | CLONE_SIGHAND | SIGCHLD, (void *)1);
    CHECK(pid > 0);
    checkpoint_tree(1);
    CHECK_EQ(compare(getpid(), pid, SAME_SIGHAND, 0, 0), 0);
    CHECK_EQ(compare(getpid(), pid, SAME_VM, 0, 0), 0);
    CHECK(compare(getpid(), pid, SAME_FS, 0, 0) > 0);
    while (!board->word[0])
        nap();
    CHECK(kill(getpid(), SIGHUP) == 0 && signals_seen[SIGHUP] == 1);
    CHECK_EQ(signals_seen[SIGUSR2], 0);
    CHECK(signal(SIGTERM, SIG_IGN) == SIG_DFL);
    board->turn = 2;
    reap(pid, W_EXITCODE(5, 0));
    return done();
}

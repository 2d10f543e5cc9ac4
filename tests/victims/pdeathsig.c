/*
 * PR_SET_PDEATHSIG: the parent ends after the checkpoint, and the child gets the signal that it
 * asked for.
 */
#include "tree.h"

static void child(int place)
{
    int wanted = 0;
    count_signals(SIGUSR2);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
    over_checkpoint(place);
    CHECK(prctl(PR_GET_PDEATHSIG, &wanted) == 0 && wanted == SIGUSR2);
    CHECK_EQ(signals_seen[SIGUSR2], 0);
    board->word[place] = 1;
    await_parent(board->root);
    sched_yield();
    CHECK_EQ(signals_seen[SIGUSR2], 1);
    _exit(place);
}

static void middle(int place)
{
    spawn(child, 2);
    over_checkpoint(place);
    while (!board->word[2])
        nap();
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t pid = spawn(middle, 1);
    checkpoint_tree(2);
    reap(pid, W_EXITCODE(1, 0));
    reap(board->who[2].pid, W_EXITCODE(2, 0));
    return done();
}

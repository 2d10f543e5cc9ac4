/*
 * A subreaper in the middle of the tree. It already has an orphan from a branch in another session,
 * and gets the next orphan after the checkpoint.
 */
#include "tree.h"

static void leaf(int place)
{
    if (place == 3)
        await_parent(board->who[1].pid);
    over_checkpoint(place);
    CHECK(place == 4 || getppid() == board->who[1].pid);
    await_turn(2);
    await_parent(board->who[1].pid);
    _exit(place);
}

static void branch(int place)
{
    CHECK(setsid() == getpid());
    spawn(leaf, place);
    if (place == 4) { /* this branch ends after the checkpoint */
        over_checkpoint(2);
        await_turn(2);
    }
    _exit(0);
}

static void middle(int place)
{
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    board->who[place].pid = getpid();
    reap(spawn(branch, 3), W_EXITCODE(0, 0));
    pid_t later = spawn(branch, 4);
    over_checkpoint(place);
    await_turn(2);
    reap(later, W_EXITCODE(0, 0));
    CHECK(board->who[3].sid != board->who[4].sid && board->who[4].ppid == later);
    reap(board->who[3].pid, W_EXITCODE(3, 0));
    reap(board->who[4].pid, W_EXITCODE(4, 0));
    no_children_left();
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(middle, 1);
    checkpoint_tree(4);
    await_checks(4);
    board->turn = 2;
    reap(pid, W_EXITCODE(1, 0));
    no_children_left();
    return done();
}

/*
 * Zombies at every level of the tree, also the zombie of a child that has ended itself. Parents
 * reap them in another order than they ended.
 */
#include "tree.h"

static void ends(int code)
{
    _exit(code);
}

static void parent(int place)
{
    pid_t pids[3];
    siginfo_t info;
    for (int n = 0; n < 3; n++)
        pids[n] = spawn(ends, place * 10 + n);
    for (int n = 0; n < 3; n++)
        CHECK(waitid(P_PID, pids[n], &info, WEXITED | WNOWAIT) == 0);
    pid_t below = place < 3 ? spawn(parent, place + 1) : 0;
    over_checkpoint(place);
    if (below)
        reap(below, W_EXITCODE(place + 1, 0));
    for (int n = 2; n >= 0; n--)
        reap(pids[n], W_EXITCODE(place * 10 + n, 0));
    no_children_left();
    _exit(place);
}

/* When this process ends, its own zombie goes to the subreaper. */
static void dies_before_waiting(int code)
{
    siginfo_t info;
    pid_t pid = spawn(ends, 77);
    CHECK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT) == 0);
    board->word[0] = pid;
    _exit(code);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t first = spawn(parent, 1), dead = spawn(dies_before_waiting, 66);
    await_state(dead, 'Z');
    checkpoint_tree(3);
    CHECK(who_is(board->word[0]).ppid == getpid() && who_is(board->word[0]).state == 'Z');
    reap(dead, W_EXITCODE(66, 0));
    reap(board->word[0], W_EXITCODE(77, 0));
    reap(first, W_EXITCODE(1, 0));
    no_children_left();
    return done();
}

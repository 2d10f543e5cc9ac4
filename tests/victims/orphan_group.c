/*
 * An orphaned group: no member has a parent in another group of the same session. So SIGTSTP,
 * SIGTTIN and SIGTTOU do not stop it.
 */
#include "tree.h"

static void member(int place)
{
    CHECK(setpgid(0, 0) == 0);
    await_parent(board->root);
    over_checkpoint(place);
    raise(SIGTSTP);
    raise(SIGTTIN);
    raise(SIGTTOU);
    _exit(place);
}

static void leader(int place)
{
    CHECK(setsid() == getpid());
    spawn(member, 5);
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    reap(spawn(leader, 0), W_EXITCODE(0, 0));
    checkpoint_tree(1);
    int status;
    CHECK_EQ(waitpid(board->who[5].pid, &status, WUNTRACED), board->who[5].pid);
    CHECK_EQ(status, W_EXITCODE(5, 0));
    return done();
}

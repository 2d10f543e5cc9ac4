/*
 * The parent of a grandchild has ended. The grandchild was given to the root, a child subreaper.
 * The root waits for it.
 */
#include "tree.h"

static void grandchild(int place)
{
    await_parent(board->root);
    over_checkpoint(place);
    CHECK_EQ(getppid(), board->root);
    _exit(33);
}

static void middle(int place)
{
    spawn(grandchild, place);
    _exit(11);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    reap(spawn(middle, 1), W_EXITCODE(11, 0));
    checkpoint_tree(1);
    int subreaper = 0;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
    reap(board->who[1].pid, W_EXITCODE(33, 0));
    no_children_left();
    return done();
}

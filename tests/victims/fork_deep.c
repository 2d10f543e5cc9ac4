/*
 * A chain of twelve processes. Each is the child of the previous one, has its own memory, and waits
 * for the next.
 */
#include "tree.h"

enum { DEPTH = 12 };

static volatile int sum;

static void level(int depth)
{
    sum += depth;
    int mine = sum;
    pid_t next = depth < DEPTH ? spawn(level, depth + 1) : 0;
    over_checkpoint(depth);
    CHECK(sum == mine && mine == depth * (depth + 1) / 2);
    CHECK_EQ(getppid(), depth == 1 ? board->root : board->who[depth - 1].pid);
    if (next)
        reap(next, W_EXITCODE(depth + 1, 0));
    no_children_left();
    _exit(depth);
}

int main(void)
{
    board_make();
    pid_t first = spawn(level, 1);
    checkpoint_tree(DEPTH);
    reap(first, W_EXITCODE(1, 0));
    no_children_left();
    return done();
}

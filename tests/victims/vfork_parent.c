/* A child waits in vfork(2) for a long time, until the grandchild that borrows its memory ends. */
#include "tree.h"

static void child(int place)
{
    pid_t pid = vfork();
    if (pid == 0) {
        over_checkpoint(2);
        _exit(7);
    }
    reap(pid, W_EXITCODE(7, 0));
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(child, 1);
    checkpoint_tree(1);
    reap(pid, W_EXITCODE(1, 0));
    return done();
}

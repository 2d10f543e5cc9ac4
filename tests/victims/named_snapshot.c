/*
 * A process with a child that takes the name of a snapshot child and has no exit signal, as those
 * have. The child is a process like any other.
 */
#include "tree.h"

int main(void)
{
    board_make();
    pid_t pid = syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(prctl(PR_SET_NAME, "ckptfs-snapshot", 0, 0, 0) == 0);
        arrive(1);
        await_turn(2);
        _exit(7);
    }
    await_arrivals(1);
    checkpoint_here(1);
    board->turn = 2;
    int status;
    CHECK_EQ(waitpid(pid, &status, __WALL), pid);
    CHECK_EQ(status, W_EXITCODE(7, 0));
    return done();
}

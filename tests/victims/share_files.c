/*
 * clone(CLONE_FILES): two processes share one descriptor table. A descriptor that one opens or
 * closes is open or closed in the other.
 */
#include "tree.h"

static void child(int place)
{
    over_checkpoint(place);
    CHECK(fcntl(50, F_GETFD) == 0 && close(50) == 0);
    CHECK(dup2(1, 60) == 60);
    board->word[0] = 1;
    await_turn(2);
    CHECK(fcntl(70, F_GETFD) == FD_CLOEXEC && fcntl(51, F_GETFD) < 0);
    CHECK(unshare(CLONE_FILES) == 0 && close(60) == 0);
    _exit(5);
}

int main(void)
{
    board_make();
    pid_t pid = spawn_with(CLONE_FILES | SIGCHLD, child, 1);
    await_arrivals(1);
    CHECK(dup2(0, 50) == 50 && dup2(0, 51) == 51);
    checkpoint_tree(1);
    CHECK_EQ(compare(getpid(), pid, SAME_FILES, 0, 0), 0);
    CHECK(compare(getpid(), pid, SAME_FS, 0, 0) > 0 && compare(getpid(), pid, SAME_VM, 0, 0) > 0);
    while (!board->word[0])
        nap();
    CHECK(fcntl(50, F_GETFD) < 0 && errno == EBADF);
    CHECK(fcntl(60, F_GETFD) == 0 && fcntl(1, F_GETFD) == 0);
    CHECK(dup3(1, 70, O_CLOEXEC) == 70 && close(51) == 0);
    board->turn = 2;
    reap(pid, W_EXITCODE(5, 0));
    CHECK(fcntl(60, F_GETFD) == 0);
    return done();
}

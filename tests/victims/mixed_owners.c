/*
 * mixed_owners: a process of user "nobody" with a child of root, as below sudo(8). With an argument
 * the process is not dumpable.
 */
#include "tree.h"

enum { NOBODY = 65534 };

static void of_root(int status)
{
    arrive(1);
    await_turn(2);
    _exit(status);
}

int main(int argc, char **argv)
{
    (void)argv;
    board_make();
    pid_t pid = spawn(of_root, 7);
    CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, argc == 1, 0, 0, 0) == 0);
    await_arrivals(1);
    checkpoint_here(1);
    board->turn = 2;
    reap(pid, W_EXITCODE(7, 0));
    return done();
}

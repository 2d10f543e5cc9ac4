/* siblings_share: two children of which one has made the other, as its sibling, with the same descriptor table. */
#include "tree.h"

static void second(int place)
{
    arrive(place);
    await_turn(3);
    CHECK(fcntl(9, F_GETFD) >= 0);
    board->turn = 4;
    _exit(place);
}

static void first(int place)
{
    spawn_with(CLONE_PARENT | CLONE_FILES | SIGCHLD, second, 2);
    arrive(place);
    await_turn(2);
    CHECK(dup2(0, 9) == 9);
    board->turn = 3;
    await_turn(4);
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(first, 1);
    await_arrivals(2);
    checkpoint_here(1);
    board->turn = 2;
    reap(pid, W_EXITCODE(1, 0));
    reap(board->who[2].pid, W_EXITCODE(2, 0));
    return done();
}

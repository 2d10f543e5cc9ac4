/*
 * outsiders_share: a process shares its descriptor table with two processes that are not its
 * descendants: a sibling, which it made with CLONE_PARENT, and an orphan, which the root adopted
 * when the process that made it ended.
 */
#include "tree.h"

enum { MIDDLE = 1, SHARER, SIBLING, ORPHAN };

/* SHARER opens descriptor 9 and then calls turn 4. The other processes find it open. */
static void other(int place)
{
    arrive(place);
    await_turn(4);
    CHECK(fcntl(9, F_GETFD) >= 0);
    _exit(place);
}

static void orphan(int place)
{
    await_parent(board->root);
    other(place);
}

static void maker(int place)
{
    (void)place;
    spawn_with(CLONE_FILES | SIGCHLD, orphan, ORPHAN);
}

static void sharer(int place)
{
    reap(spawn_with(CLONE_FILES | SIGCHLD, maker, 0), 0);
    spawn_with(CLONE_PARENT | CLONE_FILES | SIGCHLD, other, SIBLING);
    arrive(place);
    await_turn(2);
    CHECK(dup2(0, 9) == 9);
    board->turn = 4;
    _exit(place);
}

static void middle(int place)
{
    pid_t pid = spawn(sharer, SHARER);
    arrive(place);
    await_turn(2);
    reap(pid, W_EXITCODE(SHARER, 0));
    reap(board->who[SIBLING].pid, W_EXITCODE(SIBLING, 0));
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    pid_t pid = spawn(middle, MIDDLE);
    await_arrivals(4);
    checkpoint_here(1);
    board->turn = 2;
    reap(pid, W_EXITCODE(MIDDLE, 0));
    reap(board->who[ORPHAN].pid, W_EXITCODE(ORPHAN, 0));
    return done();
}

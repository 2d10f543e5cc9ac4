/*
 * The leader of a session has ended and was not waited for yet. Its child remains in the session.
 */
#include "tree.h"

static void member(int place)
{
    count_signals(SIGUSR1);
    await_parent(board->root);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], 1);
    _exit(place);
}

static void leader(int place)
{
    CHECK(setsid() == getpid());
    spawn(member, 1);
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t dead = spawn(leader, 7);
    await_arrivals(1);
    struct who before = who_is(dead);
    checkpoint_tree(1);
    struct who after = who_is(dead);
    check_same_who(&before, &after);
    CHECK(after.state == 'Z' && after.sid == dead && after.pgid == dead);
    pid_t member = board->who[1].pid;
    CHECK(getsid(member) == dead && getpgid(member) == dead);
    CHECK(kill(-dead, SIGUSR1) == 0);
    reap(dead, W_EXITCODE(7, 0));
    CHECK(getsid(member) == dead && kill(-dead, 0) == 0);
    board->turn = 2;
    reap(member, W_EXITCODE(1, 0));
    return done();
}

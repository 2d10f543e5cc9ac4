/*
 * The leader of a session has ended and was reaped. Its children remain in the session, two of them
 * in the leader's group.
 */
#include "tree.h"

static void member(int place)
{
    if (place == 3)
        CHECK(setpgid(0, 0) == 0);
    count_signals(SIGUSR1);
    await_parent(board->root);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], place == 3 ? 0 : 1);
    _exit(place);
}

static void leader(int place)
{
    CHECK(setsid() == getpid());
    for (int n = 1; n <= 3; n++)
        spawn(member, n);
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t dead = spawn(leader, 7);
    reap(dead, W_EXITCODE(7, 0));
    checkpoint_tree(3);
    for (int n = 1; n <= 3; n++) {
        pid_t pid = board->who[n].pid;
        CHECK_EQ(getsid(pid), dead);
        CHECK_EQ(getpgid(pid), n == 3 ? pid : dead);
    }
    CHECK(kill(dead, 0) < 0 && errno == ESRCH);
    CHECK(kill(-dead, SIGUSR1) == 0);
    board->turn = 2;
    for (int n = 1; n <= 3; n++)
        reap(board->who[n].pid, W_EXITCODE(n, 0));
    CHECK(kill(-dead, SIGUSR1) < 0 && errno == ESRCH);
    return done();
}

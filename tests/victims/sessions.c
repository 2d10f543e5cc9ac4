/*
 * A child leads a session with a grandchild in it. Another grandchild leads a session of its own. A
 * signal to a group reaches its members.
 */
#include "tree.h"

static void member(int place)
{
    if (place == 3)
        CHECK(setsid() == getpid());
    count_signals(SIGUSR1);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], place == 3 ? 0 : 1);
    _exit(place);
}

static void leader(int place)
{
    CHECK(setsid() == getpid());
    count_signals(SIGUSR1);
    pid_t inside = spawn(member, 2), apart = spawn(member, 3);
    over_checkpoint(place);
    CHECK(getsid(0) == getpid() && getsid(inside) == getpid() && getpgid(inside) == getpid());
    CHECK(getsid(apart) == apart && getpgid(apart) == apart);
    CHECK(setsid() < 0 && errno == EPERM); /* a leader cannot leave */
    reap(inside, W_EXITCODE(2, 0));
    reap(apart, W_EXITCODE(3, 0));
    CHECK_EQ(signals_seen[SIGUSR1], 1);
    _exit(place);
}

int main(void)
{
    board_make();
    count_signals(SIGUSR1);
    pid_t pid = spawn(leader, 1), mine = spawn(member, 4);
    checkpoint_tree(4);
    CHECK(getsid(pid) == pid && getsid(mine) == getpid());
    CHECK(kill(-pid, SIGUSR1) == 0 && signals_seen[SIGUSR1] == 0);
    CHECK(kill(0, SIGUSR1) == 0 && signals_seen[SIGUSR1] == 1);
    board->turn = 2;
    reap(pid, W_EXITCODE(1, 0));
    reap(mine, W_EXITCODE(4, 0));
    return done();
}

/*
 * The leader of each group is a member of another group. Two leaders have swapped places, and three
 * form a ring. The processes that kept the groups alive during the swap have ended.
 */
#include "tree.h"

enum { COUNT = 5 };
static const int next[COUNT] = {1, 0, 3, 4, 2};

static void member(int place)
{
    await_turn(-1);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], 1);
    _exit(place);
}

static void keeper(int place)
{
    for (;; place++)
        pause();
}

int main(void)
{
    pid_t pids[COUNT], keepers[COUNT];
    board_make();
    board->turn = -2;
    count_signals(SIGUSR1);
    for (int n = 0; n < COUNT; n++) {
        pids[n] = spawn(member, n);
        keepers[n] = spawn(keeper, n);
        CHECK(setpgid(pids[n], pids[n]) == 0 && setpgid(keepers[n], pids[n]) == 0);
    }
    for (int n = 0; n < COUNT; n++)
        CHECK(setpgid(pids[n], pids[next[n]]) == 0);
    for (int n = 0; n < COUNT; n++) {
        CHECK(kill(keepers[n], SIGKILL) == 0);
        reap(keepers[n], SIGKILL);
    }
    board->turn = -1;
    checkpoint_tree(COUNT);
    await_checks(COUNT);
    for (int n = 0; n < COUNT; n++)
        CHECK(getpgid(pids[n]) == pids[next[n]] && kill(-pids[n], SIGUSR1) == 0);
    board->turn = 2;
    for (int n = 0; n < COUNT; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

/*
 * Three groups in one session. A signal reaches its group only, and a process can still change
 * groups.
 */
#include "tree.h"

static pid_t group[3];

/* Place 10 g + m is member m of group g. Member 0 is the leader. */
static void member(int place)
{
    if (place / 10 > 0)
        CHECK(setpgid(0, group[place / 10]) == 0);
    count_signals(SIGUSR1);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], place / 10);
    await_turn(3);
    _exit(place);
}

static unsigned long long pending(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    return strtoull(proc_line(path, "ShdPnd:"), NULL, 16);
}

int main(void)
{
    board_make();
    signal(SIGUSR1, SIG_IGN);
    for (int g = 0; g < 3; g++) {
        group[g] = 0;
        pid_t leader = spawn(member, 10 * g);
        group[g] = g ? leader : getpid();
        await_arrivals(3 * g + 1);
        spawn(member, 10 * g + 1);
        spawn(member, 10 * g + 2);
        await_arrivals(3 * g + 3);
    }
    checkpoint_tree(9);
    await_checks(9);
    for (int g = 0; g < 3; g++)
        for (int m = 0; m < 3; m++)
            CHECK_EQ(getpgid(board->who[10 * g + m].pid), group[g]);
    /*
     * Group 1 gets one signal, group 2 gets two. The second is sent only after the first was
     * handled, because a pending SIGUSR1 is not queued twice.
     */
    CHECK(kill(-group[1], SIGUSR1) == 0 && kill(-group[2], SIGUSR1) == 0);
    for (int m = 0; m < 3; m++)
        while (pending(board->who[20 + m].pid))
            nap();
    CHECK(kill(-group[2], SIGUSR1) == 0);
    board->turn = 2;
    pid_t mover = board->who[12].pid;
    CHECK(setpgid(mover, group[2]) == 0 && getpgid(mover) == group[2]);
    CHECK(setpgid(mover, mover) == 0 && getpgid(mover) == mover);
    CHECK(setpgid(mover, 1) < 0 && errno == EPERM);
    board->turn = 3;
    for (int g = 0; g < 3; g++)
        for (int m = 0; m < 3; m++)
            reap(board->who[10 * g + m].pid, W_EXITCODE(10 * g + m, 0));
    return done();
}

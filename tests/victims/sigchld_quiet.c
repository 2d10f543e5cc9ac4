/*
 * A checkpoint sends no SIGCHLD and leaves no child to wait for. A parent of living children
 * notices nothing.
 */
#include "tree.h"

static void child(int place)
{
    over_checkpoint(place);
    await_turn(2);
    _exit(place);
}

int main(void)
{
    board_make();
    count_signals(SIGCHLD);
    pid_t pids[3];
    for (int n = 0; n < 3; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(3);
    siginfo_t info = {0};
    CHECK_EQ(signals_seen[SIGCHLD], 0);
    CHECK_EQ(strtoull(proc_line("/proc/self/status", "ShdPnd:"), NULL, 16), 0);
    CHECK(waitpid(-1, NULL, WNOHANG | WUNTRACED | WCONTINUED) == 0);
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG) == 0 && info.si_pid == 0);
    board->turn = 2;
    for (int n = 0; n < 3; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    CHECK(signals_seen[SIGCHLD] >= 1 && signals_seen[SIGCHLD] <= 3);
    no_children_left();
    return done();
}

/*
 * clone(2) children that end with a signal other than SIGCHLD, or with none. __WCLONE and __WALL
 * wait for them.
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
    for (int number = SIGCHLD; number; number = number == SIGCHLD ? SIGUSR1 : number == SIGUSR1 ? 64 : 0)
        count_signals(number);
    int wanted[] = {0, SIGUSR1, 64, SIGCHLD};
    pid_t pids[4];
    for (int n = 0; n < 4; n++) {
        pids[n] = spawn_with(wanted[n] | CLONE_CHILD_CLEARTID, child, n);
        await_arrivals(n + 1);
        CHECK_EQ(board->who[n].exit_signal, wanted[n]);
    }
    checkpoint_tree(4);
    board->turn = 2;
    for (int n = 0; n < 4; n++) {
        int status;
        await_state(pids[n], 'Z');
        if (n < 3) {
            CHECK(waitpid(pids[n], &status, 0) < 0 && errno == ECHILD);
            CHECK_EQ(waitpid(pids[n], &status, n ? __WCLONE : __WALL), pids[n]);
        } else
            CHECK_EQ(waitpid(pids[n], &status, 0), pids[n]);
        CHECK_EQ(status, W_EXITCODE(n, 0));
        CHECK_EQ(signals_seen[wanted[n]], n > 0);
    }
    return done();
}

/*
 * job_below: a shell (this process) and a job of two processes, a child and a grandchild, stopped
 * by SIGTSTP as ^Z does. The shell has waited for the stop of its child. The child has not yet
 * waited for the stop of the grandchild.
 */
#include "tree.h"

static void second(int place)
{
    arrive(place);
    await_turn(2);
    _exit(place);
}

static void first(int place)
{
    CHECK(setpgid(0, 0) == 0);
    pid_t pid = spawn(second, 2);
    arrive(place);
    await_turn(2);
    reap(pid, W_EXITCODE(2, 0));
    _exit(place);
}

int main(void)
{
    int status;
    board_make();
    pid_t pid = spawn(first, 1);
    await_arrivals(2);
    CHECK(kill(-pid, SIGTSTP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && status == W_STOPCODE(SIGTSTP));
    await_state(board->who[2].pid, 'T');
    checkpoint_here(1);
    CHECK(kill(-pid, SIGCONT) == 0);
    board->turn = 2;
    reap(pid, W_EXITCODE(1, 0));
    return done();
}

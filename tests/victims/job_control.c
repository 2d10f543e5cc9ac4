/*
 * A shell with three jobs of two processes each. The first job runs and the second is stopped. In
 * the third, the first process has ended and was not waited for.
 */
#include "tree.h"

static pid_t group;

static void worker(int place)
{
    CHECK(setpgid(0, group) == 0);
    arrive(place);
    if (place == 30)
        _exit(place);
    await_turn(2);
    check_place(place);
    _exit(place);
}

/* Waits until one process of the job changes its state, and returns its status. */
static int change(pid_t job, int options)
{
    int status;
    CHECK(waitpid(-job, &status, options) > 0);
    return status;
}

static void shell(int place)
{
    CHECK(setsid() == getpid());
    pid_t job[4];
    for (int n = 1; n <= 3; n++) {
        group = 0;
        group = job[n] = spawn(worker, 10 * n);
        await_state(job[n], n == 3 ? 'Z' : 'S');
        CHECK(n == 3 || getpgid(job[n]) == getpid() || getpgid(job[n]) == job[n]);
        while (who_is(job[n]).pgid != job[n])
            nap();
        spawn(worker, 10 * n + 1);
    }
    while (board->arrived < 6)
        nap();
    CHECK(kill(-job[2], SIGTSTP) == 0);
    /* One stop is reported, the other not yet. */
    CHECK_EQ(change(job[2], WUNTRACED), W_STOPCODE(SIGTSTP));
    await_state(board->who[20].pid, 'T');
    await_state(board->who[21].pid, 'T');
    over_checkpoint(place);
    CHECK(waitpid(-job[1], NULL, WNOHANG | WUNTRACED | WCONTINUED) == 0);
    CHECK_EQ(change(job[2], WUNTRACED | WNOHANG), W_STOPCODE(SIGTSTP));
    CHECK(waitpid(-job[2], NULL, WNOHANG | WUNTRACED | WCONTINUED) == 0);
    CHECK_EQ(change(job[3], WNOHANG), W_EXITCODE(30, 0));
    CHECK(kill(-job[2], SIGCONT) == 0);
    CHECK(WIFCONTINUED(change(job[2], WCONTINUED)) && WIFCONTINUED(change(job[2], WCONTINUED)));
    CHECK(kill(-job[1], SIGTERM) == 0);
    CHECK(change(job[1], 0) == SIGTERM && change(job[1], 0) == SIGTERM);
    board->turn = 2;
    CHECK_EQ(WEXITSTATUS(change(job[2], 0)) + WEXITSTATUS(change(job[2], 0)), 20 + 21);
    CHECK_EQ(change(job[3], 0), W_EXITCODE(31, 0));
    no_children_left();
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(shell, 1);
    checkpoint_tree(7);
    reap(pid, W_EXITCODE(1, 0));
    return done();
}

/*
 * The shell of a stopped job ends after the checkpoint. The group of the job becomes orphaned, and
 * gets SIGHUP and SIGCONT.
 */
#include "tree.h"

static void job(int place)
{
    CHECK(setpgid(0, 0) == 0);
    count_signals(SIGHUP);
    arrive(place);
    raise(SIGTSTP);
    sched_yield();
    CHECK_EQ(signals_seen[SIGHUP], 1);
    await_parent(board->root);
    _exit(place);
}

static void shell(int place)
{
    CHECK(setsid() == getpid());
    pid_t pid = spawn(job, 2);
    await_state(pid, 'T');
    over_checkpoint(place);
    CHECK_EQ(who_is(pid).state, 'T');
    _exit(place);
}

int main(void)
{
    board_make();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t pid = spawn(shell, 1);
    checkpoint_tree(2);
    reap(pid, W_EXITCODE(1, 0));
    reap(board->who[2].pid, W_EXITCODE(2, 0));
    return done();
}

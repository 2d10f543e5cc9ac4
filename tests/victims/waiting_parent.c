/*
 * Parents block in every form of wait(2) during the checkpoint, and get their child's status when
 * it ends afterwards.
 */
#include "tree.h"

enum { PARENTS = 6 };

static void child(int place)
{
    over_checkpoint(place);
    _exit(place);
}

static void parent(int n)
{
    pid_t pid = spawn(child, n + 10), got = -1;
    siginfo_t info = {0};
    int status = -1;
    if (n == 0)
        got = waitpid(pid, &status, 0);
    else if (n == 1)
        got = wait4(-1, &status, WUNTRACED | WCONTINUED, NULL);
    else if (n == 2)
        got = waitpid(0, &status, __WALL);
    else if (n == 3)
        got = waitpid(-getpgrp(), &status, 0);
    else {
        CHECK(waitid(n == 4 ? P_PID : P_ALL, pid, &info, WEXITED) == 0);
        CHECK_EQ(info.si_code, CLD_EXITED);
        CHECK_EQ(info.si_signo, SIGCHLD);
        got = info.si_pid;
        status = W_EXITCODE(info.si_status, 0);
    }
    CHECK_EQ(got, pid);
    CHECK_EQ(status, W_EXITCODE(n + 10, 0));
    no_children_left();
    _exit(n);
}

int main(void)
{
    pid_t pids[PARENTS];
    board_make();
    for (int n = 0; n < PARENTS; n++)
        pids[n] = spawn(parent, n);
    for (int n = 0; n < PARENTS; n++)
        wait_blocked_process(pids[n], n < 4 ? SYS_wait4 : SYS_waitid);
    checkpoint_tree(PARENTS);
    for (int n = 0; n < PARENTS; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

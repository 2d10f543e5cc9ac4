/*
 * Children that have ended and were not waited for keep every exit code and signal, session, group,
 * name and owner.
 */
#include "tree.h"
#include <sys/resource.h>

static const int statuses[] = {
    W_EXITCODE(0, 0), W_EXITCODE(1, 0), W_EXITCODE(200, 0), W_EXITCODE(255, 0), W_EXITCODE(0, SIGKILL),
    W_EXITCODE(0, SIGTERM), W_EXITCODE(0, SIGSEGV), W_EXITCODE(0, SIGHUP), W_EXITCODE(0, 34), W_EXITCODE(0, 64),
};
enum { COUNT = sizeof statuses / sizeof *statuses };

static void child(int n)
{
    char name[16];
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0); /* no core flag */
    snprintf(name, sizeof name, "ended ) %d", n);
    CHECK(prctl(PR_SET_NAME, name) == 0);
    if (n == 1)
        CHECK(setsid() == getpid());
    if (n == 2)
        CHECK(setpgid(0, 0) == 0);
    if (n == 3)
        CHECK(setresuid(4321, 1234, 1) == 0);
    if (WIFEXITED(statuses[n]))
        _exit(WEXITSTATUS(statuses[n]));
    for (kill(getpid(), WTERMSIG(statuses[n]));;)
        pause();
}

int main(void)
{
    pid_t pids[COUNT];
    siginfo_t before[COUNT], after;
    struct who whom[COUNT];
    board_make();
    for (int n = 0; n < COUNT; n++) {
        pids[n] = spawn(child, n);
        CHECK(waitid(P_PID, pids[n], &before[n], WEXITED | WNOWAIT) == 0);
        whom[n] = who_is(pids[n]);
    }
    checkpoint_tree(0);
    for (int n = 0; n < COUNT; n++) {
        struct who who = who_is(pids[n]);
        check_same_who(&whom[n], &who);
        CHECK_EQ(who.state, 'Z');
        memset(&after, 0, sizeof after);
        CHECK(waitid(P_PID, pids[n], &after, WEXITED | WNOWAIT) == 0);
        CHECK_EQ(after.si_pid, pids[n]);
        CHECK_EQ(after.si_uid, before[n].si_uid);
        CHECK_EQ(after.si_code, before[n].si_code);
        CHECK_EQ(after.si_status, before[n].si_status);
        reap(pids[n], statuses[n]);
    }
    no_children_left();
    return done();
}

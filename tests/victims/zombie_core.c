/*
 * The core flag in the status of a child that dumped core (where this machine writes core files to
 * plain files).
 */
#include "tree.h"
#include <sys/resource.h>

static void child(int number)
{
    struct rlimit all = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_CORE, &all) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
    for (signal(number, SIG_DFL), raise(number);;)
        pause();
}

int main(void)
{
    char *pattern = slurp("/proc/sys/kernel/core_pattern", NULL);
    int plain = !strpbrk(pattern, "/|");
    board_make();
    pid_t with = plain ? spawn(child, SIGABRT) : 0, without = spawn(child, SIGTERM);
    siginfo_t info;
    if (plain)
        CHECK(waitid(P_PID, with, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_DUMPED);
    CHECK(waitid(P_PID, without, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_KILLED);
    checkpoint_tree(0);
    if (plain) {
        CHECK(waitid(P_PID, with, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_DUMPED);
        reap(with, W_EXITCODE(0, SIGABRT) | WCOREFLAG);
    }
    reap(without, W_EXITCODE(0, SIGTERM));
    return done();
}

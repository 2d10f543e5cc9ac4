/* A pending SIGCHLD stays a single signal, with its information about the child. */
#include "tree.h"

static void child(int place)
{
    CHECK(setresuid(77, 77, 77) == 0);
    _exit(place);
}

int main(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    board_make();
    pid_t first = spawn(child, 11);
    await_state(first, 'Z');
    pid_t second = spawn(child, 12); /* its SIGCHLD is lost: one is already pending */
    await_state(second, 'Z');
    checkpoint_tree(0);
    CHECK_EQ(strtoull(proc_line("/proc/self/status", "ShdPnd:"), NULL, 16), 1ull << (SIGCHLD - 1));
    CHECK_EQ(sigtimedwait(&set, &info, &none), SIGCHLD);
    CHECK_EQ(info.si_pid, first);
    CHECK_EQ(info.si_uid, 77);
    CHECK_EQ(info.si_code, CLD_EXITED);
    CHECK_EQ(info.si_status, 11);
    CHECK(sigtimedwait(&set, &info, &none) < 0 && errno == EAGAIN);
    reap(second, W_EXITCODE(12, 0));
    reap(first, W_EXITCODE(11, 0));
    no_children_left();
    return done();
}

/*
 * A child that executed another program keeps its executable, arguments, environment and name. A
 * signal ends it.
 */
#include "tree.h"

static char *environment[] = {"ONE=1", "EMPTY=", NULL};

static void child(int place)
{
    CHECK(setpgid(0, 0) == 0);
    arrive(place);
    execle("/bin/sleep", "a sleeper", "1000", NULL, environment);
    CHECK(!"execle");
}

static char *of(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    size_t len;
    char *text = slurp(path, &len);
    for (size_t n = 0; n < len; n++)
        text[n] = text[n] ? text[n] : '|';
    return text;
}

int main(void)
{
    char exe[2][4096] = {"", ""}, path[64];
    board_make();
    pid_t pid = spawn(child, 1);
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    wait_blocked_process(pid, SYS_clock_nanosleep);
    while (strcmp(who_is(pid).comm, "sleep") != 0) /* it may block before it executes sleep */
        nap();
    wait_blocked_process(pid, SYS_clock_nanosleep);
    CHECK(readlink(path, exe[0], 4096) > 0);
    struct who before = who_is(pid);
    char *environ_before = of(pid, "environ"), *auxv = of(pid, "auxv");
    checkpoint_tree(1);
    CHECK(readlink(path, exe[1], 4096) > 0 && strcmp(exe[0], exe[1]) == 0);
    struct who after = who_is(pid);
    check_same_who(&before, &after);
    CHECK(after.ppid == getpid() && after.pgid == pid);
    CHECK(strcmp(of(pid, "cmdline"), "a sleeper|1000|") == 0);
    CHECK(strcmp(environ_before, "ONE=1|EMPTY=|") == 0 && strcmp(of(pid, "environ"), environ_before) == 0);
    CHECK(strcmp(of(pid, "auxv"), auxv) == 0);
    await_state(pid, 'S'); /* possibly in restart_syscall(2) */
    CHECK(kill(-pid, SIGTERM) == 0);
    reap(pid, W_EXITCODE(0, SIGTERM));
    return done();
}

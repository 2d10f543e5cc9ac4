/* The working directory, and an open directory, are those of a process in /proc that has ended. */
#include "victim.h"
#include <sys/wait.h>

int main(void)
{
    char here[512], name[64], cwd[64] = "", open_at[64] = "";
    CHECK(getcwd(here, sizeof here) && (go_dir = here));
    pid_t child = fork();
    if (child == 0)
        for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
            pause();
    snprintf(name, sizeof name, "/proc/%d", child);
    int dir = open(name, O_RDONLY | O_DIRECTORY), path = open(name, O_PATH);
    CHECK(dir >= 0 && path >= 0 && chdir(name) == 0 && access("status", F_OK) == 0);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child && access("status", F_OK) < 0);
    int flags = fcntl(dir, F_GETFL), path_flags = fcntl(path, F_GETFL), failed = errno;

    checkpoint_here(1);

    strcat(name, " (deleted)");
    CHECK(readlink("/proc/self/cwd", cwd, sizeof cwd - 1) > 0 && strcmp(cwd, name) == 0);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    CHECK(readlink(link, open_at, sizeof open_at - 1) > 0 && strcmp(open_at, name) == 0);
    CHECK(access("status", F_OK) < 0 && errno == failed && faccessat(dir, "status", F_OK, 0) < 0);
    CHECK_EQ(fcntl(dir, F_GETFL), flags);
    CHECK_EQ(fcntl(path, F_GETFL), path_flags);
    CHECK(kill(child, 0) < 0 && errno == ESRCH && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    return done();
}

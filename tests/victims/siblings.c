/*
 * Two children in the session and group of their parent, which only reaps them. They are the roots
 * of a container that does not include the parent. After a restore they are still in one session
 * and one group: those of the first child. The file "child.N" holds the pid of a child. The child
 * writes its session into "ok.N" when its checks pass.
 */
#include "victim.h"
#include <sys/wait.h>

static void say(const char *name, int n, long number)
{
    char path[32];
    snprintf(path, sizeof path, "%s.%d", name, n);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0 && dprintf(fd, "%ld\n", number) > 0 && close(fd) == 0);
}

static void child(int n, pid_t first)
{
    pid_t self = getpid(), other = n == 1 ? 0 : first, session = getsid(0);
    say("child", n, self);
    while (access("go.1", F_OK) != 0)
        pause_briefly();
    CHECK(getpid() == self);
    CHECK(getsid(0) == session || getsid(0) == (n == 1 ? self : first));
    CHECK(getpgid(0) == getsid(0));
    CHECK(other == 0 || (getsid(other) == getsid(0) && getpgid(other) == getpgid(0)));
    say("ok", n, getsid(0));
    while (access("go.2", F_OK) != 0)
        pause_briefly();
    _exit(0);
}

int main(void)
{
    pid_t first = 0;
    for (int n = 1; n <= 2; n++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(n, first);
        first = first ? first : pid;
    }
    while (access("child.1", F_OK) != 0 || access("child.2", F_OK) != 0)
        pause_briefly();
    dprintf(1, "ready 1\n");
    for (int left = 2; left > 0;)
        left -= wait(NULL) > 0;
    while (access("go.2", F_OK) != 0)
        pause_briefly();
    return done();
}

/*
 * launch USER TERMINAL PROGRAM [ARG...]: executes PROGRAM in a session of its own, with no
 * descriptor of the caller.
 */
#include "victim.h"
#include <grp.h>

int main(int argc, char **argv)
{
    CHECK(argc >= 4);
    /*
     * This process is not a group leader: the caller forked it and made no group. So setsid
     * succeeds and the pid stays the same.
     */
    CHECK(setsid() == getpid());
    CHECK(close_range(3, ~0u, 0) == 0);
    int null = open("/dev/null", O_RDONLY);
    int out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0666);
    CHECK(null >= 0 && out >= 0);
    if (strcmp(argv[2], "-") != 0) {
        /* The first terminal that a session leader opens becomes the controlling terminal. */
        int terminal = open(argv[2], O_RDWR);
        CHECK(terminal >= 0 && dup2(terminal, 100) == 100);
    }
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    close_range(3, 99, 0);
    if (fcntl(100, F_GETFD) >= 0) {
        CHECK(dup2(100, 3) == 3);
        close(100);
    }
    for (int n = 1; n < 65; n++)
        signal(n, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    int user = atoi(argv[1]);
    if (user != 0)
        CHECK(fchown(1, user, user) == 0 && setgroups(0, NULL) == 0 && setgid(user) == 0 && setuid(user) == 0);
    execvp(argv[3], argv + 3);
    CHECK(!"execvp");
}

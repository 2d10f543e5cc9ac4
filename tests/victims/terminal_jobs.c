/*
 * Job control on the controlling terminal (descriptor 3). A child's group has the foreground, and
 * the root can take it back.
 */
#include "victim.h"
#include <sys/wait.h>
#include <termios.h>

int main(void)
{
    int status;
    signal(SIGHUP, SIG_IGN); /* killing a session leader hangs up its terminal */
    signal(SIGTTOU, SIG_IGN);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        for (;;)
            pause();
    CHECK(setpgid(child, child) == 0 && tcsetpgrp(3, child) == 0);
    CHECK_EQ(tcgetpgrp(3), child);
    checkpoint_here(1);
    CHECK_EQ(tcgetpgrp(3), child);
    CHECK_EQ(getpgid(child), child);
    CHECK_EQ(tcgetsid(3), getsid(child));
    CHECK(tcsetpgrp(3, getpgrp()) == 0);
    CHECK_EQ(tcgetpgrp(3), getpgrp());
    CHECK(kill(-child, SIGTERM) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    return done();
}

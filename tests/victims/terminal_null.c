/*
 * A controlling terminal (descriptor 3, from the harness) that is left out of the restore.
 * /dev/null takes its place, which is no terminal, and the session has no controlling one.
 */
#include "victim.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void)
{
    struct termios settings;
    char byte;
    CHECK(isatty(3) && tcgetsid(3) == getsid(0));
    int flags = fcntl(3, F_GETFL);
    signal(SIGHUP, SIG_IGN); /* killing a session leader hangs up its terminal */
    checkpoint_here(1);
    CHECK(tcgetattr(3, &settings) == -1 && errno == ENOTTY);
    CHECK(tcgetpgrp(3) == -1 && errno == ENOTTY);
    CHECK_EQ(fcntl(3, F_GETFL), flags);
    CHECK(read(3, &byte, 1) == 0 && write(3, "lost", 4) == 4);
    CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    return done();
}

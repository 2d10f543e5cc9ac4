/*
 * The controlling terminal, on descriptor 3 (opened by the harness): the same device, reachable as
 * /dev/tty, with this process in the foreground.
 */
#include "victim.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void)
{
    struct termios before, after;
    char name[64], again[64];
    CHECK(ttyname_r(3, name, sizeof name) == 0 && tcgetattr(3, &before) == 0);
    CHECK_EQ(tcgetpgrp(3), getpgrp());
    CHECK_EQ(tcgetsid(3), getsid(0));
    signal(SIGHUP, SIG_IGN); /* killing a session leader hangs up its terminal */
    checkpoint_here(1);
    CHECK(ttyname_r(3, again, sizeof again) == 0 && strcmp(name, again) == 0);
    CHECK_EQ(tcgetpgrp(3), getpgrp());
    CHECK_EQ(tcgetsid(3), getsid(0));
    CHECK(tcgetattr(3, &after) == 0 && before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag);
    int tty = open("/dev/tty", O_RDWR);
    CHECK(tty >= 0 && write(tty, "seen\n", 5) == 5);
    return done();
}

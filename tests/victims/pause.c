/* pause(2) waits until a signal ends it. */
#include "blocked.h"

static void call(void)
{
    CHECK(pause() == -1);
    CHECK_EQ(errno, EINTR);
}

int main(void)
{
    return blocked_in(SYS_pause, SIGUSR1, call);
}

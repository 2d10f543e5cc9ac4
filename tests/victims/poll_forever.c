/* poll(2) without a timeout waits until a signal ends it. */
#include "blocked.h"
#include <poll.h>

static void call(void)
{
    CHECK(poll(NULL, 0, -1) == -1);
    CHECK_EQ(errno, EINTR);
}

int main(void)
{
    return blocked_in(SYS_poll, SIGUSR1, call);
}

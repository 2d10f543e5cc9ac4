/* poll(2) with a timeout times out at its time. */
#include "blocked.h"
#include <poll.h>

static void call(void)
{
    double begin = now();
    CHECK(poll(NULL, 0, 2000) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_poll, 0, call);
}

/* A nanosleep that a signal interrupts after the checkpoint returns its remaining time. */
#include "blocked.h"

static void call(void)
{
    struct timespec asked = {5000, 0}, left = {0, 0};
    CHECK(nanosleep(&asked, &left) == -1);
    CHECK_EQ(errno, EINTR);
    CHECK(left.tv_sec > 4800 && left.tv_sec < 5000);
}

int main(void)
{
    return blocked_in(SYS_clock_nanosleep, SIGUSR1, call);
}

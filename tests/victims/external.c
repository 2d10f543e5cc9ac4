/*
 * A pipe or FIFO (descriptor 3, from the harness) with another end held by a process outside the
 * tree. The victim keeps writing to the same pipe.
 */
#include "victim.h"

int main(void)
{
    int writer = open("/proc/self/fd/3", O_WRONLY);
    CHECK(writer >= 0 && close(3) == 0);
    CHECK(write(writer, "before ", 7) == 7 && fcntl(writer, F_SETFL, O_NONBLOCK | O_APPEND) == 0);
    int flags = fcntl(writer, F_GETFL);
    checkpoint_here(1);
    CHECK_EQ(fcntl(writer, F_GETFL), flags);
    CHECK(write(writer, "after", 5) == 5);
    return done();
}

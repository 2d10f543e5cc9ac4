/*
 * A pipe or FIFO (descriptor 3, from the harness) with another end held by a process outside the
 * tree. The victim keeps writing to the same pipe, or to what takes its place. With the argument
 * "alone" it finds that nobody reads any more.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    int alone = argc > 1 && strcmp(argv[1], "alone") == 0;
    int writer = open("/proc/self/fd/3", O_WRONLY);
    CHECK(writer >= 0 && close(3) == 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(write(writer, "before ", 7) == 7 && fcntl(writer, F_SETFL, O_NONBLOCK | O_APPEND) == 0);
    int flags = fcntl(writer, F_GETFL);
    checkpoint_here(1);
    CHECK_EQ(fcntl(writer, F_GETFL), flags);
    if (alone)
        CHECK(write(writer, "after", 5) == -1 && errno == EPIPE);
    else
        CHECK(write(writer, "after", 5) == 5);
    return done();
}

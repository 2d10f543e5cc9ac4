/*
 * FIFOs by name: contents, capacity, flags, both ends open, and one end only. One reader has lost
 * its writers, and one never had a writer.
 */
#include "victim.h"
#include <poll.h>

static int polled(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK(poll(&poll_fd, 1, 0) >= 0);
    return poll_fd.revents;
}

int main(void)
{
    char text[16];
    CHECK(mkfifo("both", 0640) == 0 && mkfifo("left", 0600) == 0 && mkfifo("alone", 0600) == 0 && mkfifo("unread", 0600) == 0);
    int both = open("both", O_RDWR), reader = open("both", O_RDONLY), writer = open("both", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    int left = open("left", O_RDONLY | O_NONBLOCK), writes = open("left", O_WRONLY), alone = open("alone", O_RDONLY | O_NONBLOCK);
    int reads = open("unread", O_RDONLY | O_NONBLOCK), unread = open("unread", O_WRONLY | O_APPEND);
    CHECK(fcntl(both, F_SETPIPE_SZ, 131072) == 131072 && fcntl(writer, F_SETFL, O_NONBLOCK | O_DIRECT) == 0);
    CHECK(write(writer, "packet", 6) == 6 && write(both, "in between", 10) == 10 && write(writes, "rest", 4) == 4);
    CHECK(write(unread, "kept", 4) == 4 && close(writes) == 0 && close(reads) == 0);
    int fds[] = {both, reader, writer, left, alone, unread}, flags[6];
    for (int n = 0; n < 6; n++)
        flags[n] = fcntl(fds[n], F_GETFL);
    signal(SIGPIPE, SIG_IGN);

    checkpoint_here(1);

    for (int n = 0; n < 6; n++)
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
    CHECK(fcntl(writer, F_GETFD) == FD_CLOEXEC && fcntl(reader, F_GETFD) == 0);
    CHECK_EQ(fcntl(reader, F_GETPIPE_SZ), 131072);
    CHECK_EQ(polled(left), POLLIN | POLLHUP);
    CHECK_EQ(polled(alone), 0);
    CHECK(read(both, text, 3) == 3 && memcmp(text, "pac", 3) == 0);
    CHECK(read(reader, text, 16) == 10 && memcmp(text, "in between", 10) == 0);
    CHECK(write(writer, "on", 2) == 2 && read(reader, text, 16) == 2);
    CHECK(read(left, text, 16) == 4 && memcmp(text, "rest", 4) == 0 && read(left, text, 16) == 0);
    CHECK_EQ(read(alone, text, 16), 0);
    CHECK(write(unread, "x", 1) < 0 && errno == EPIPE);
    int late = open("unread", O_RDONLY | O_NONBLOCK);
    CHECK(late >= 0 && read(late, text, 16) == 4 && memcmp(text, "kept", 4) == 0);
    int named = open("alone", O_WRONLY | O_NONBLOCK);
    CHECK(named >= 0 && write(named, "hello", 5) == 5 && read(alone, text, 16) == 5);
    return done();
}

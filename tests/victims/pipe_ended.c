/*
 * Pipes with one end. Without a writer, the reader gets the contents and then end of file. Without
 * a reader, the writer gets SIGPIPE and EPIPE.
 */
#include "victim.h"
#include <poll.h>

static volatile sig_atomic_t signalled;

static void handler(int signal)
{
    signalled++;
}

static int polled(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLOUT};
    CHECK(poll(&poll_fd, 1, 0) >= 0);
    return poll_fd.revents;
}

int main(void)
{
    int no_writer[2], nothing[2], no_reader[2];
    char text[16];
    signal(SIGPIPE, handler);
    CHECK(pipe(no_writer) == 0 && pipe(nothing) == 0 && pipe(no_reader) == 0);
    CHECK(write(no_writer[1], "rest", 4) == 4 && write(no_reader[1], "unread", 6) == 6);
    close(no_writer[1]);
    close(nothing[1]);
    close(no_reader[0]);
    checkpoint_here(1);
    CHECK_EQ(polled(no_writer[0]), POLLIN | POLLHUP);
    CHECK_EQ(polled(nothing[0]), POLLHUP);
    CHECK_EQ(polled(no_reader[1]), POLLOUT | POLLERR);
    CHECK(read(no_writer[0], text, 16) == 4 && memcmp(text, "rest", 4) == 0);
    CHECK_EQ(read(no_writer[0], text, 16), 0);
    CHECK_EQ(read(nothing[0], text, 16), 0);
    CHECK(write(no_reader[1], "x", 1) < 0 && errno == EPIPE && signalled == 1);
    /* A reader that opens the pipe again gets the unread data. */
    snprintf(text, sizeof text, "/dev/fd/%d", no_reader[1]);
    int late = open(text, O_RDONLY);
    CHECK(late >= 0 && read(late, text, 16) == 6 && memcmp(text, "unread", 6) == 0);
    return done();
}

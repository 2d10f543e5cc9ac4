/*
 * A pipe in packet mode (O_DIRECT) keeps its packet boundaries, for single bytes and whole pages
 * too, between bytes without boundaries.
 */
#include "victim.h"

static char page[4096], text[65536];

static void reads(int fd, const char *what, int len)
{
    CHECK_EQ(read(fd, text, sizeof text), len);
    CHECK(memcmp(text, what, len) == 0);
}

int main(void)
{
    int pair[2];
    CHECK(pipe2(pair, O_DIRECT | O_NONBLOCK) == 0);
    memset(page, 'p', sizeof page);
    CHECK(write(pair[1], "a", 1) == 1 && write(pair[1], "bc", 2) == 2 && write(pair[1], page, 4096) == 4096);
    CHECK(write(pair[1], "dropped behind", 14) == 14 && fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
    CHECK(write(pair[1], "st", 2) == 2 && write(pair[1], "ream", 4) == 4);
    CHECK(fcntl(pair[1], F_SETFL, O_NONBLOCK | O_DIRECT) == 0 && write(pair[1], "z", 1) == 1);
    checkpoint_here(1);
    CHECK_EQ(fcntl(pair[1], F_GETFL), O_WRONLY | O_NONBLOCK | O_DIRECT);
    CHECK_EQ(fcntl(pair[0], F_GETFL), O_RDONLY | O_NONBLOCK);
    reads(pair[0], "a", 1);
    reads(pair[0], "bc", 2);
    reads(pair[0], page, 4096);
    CHECK(read(pair[0], text, 7) == 7 && memcmp(text, "dropped", 7) == 0);
    reads(pair[0], "streamz", 7);
    CHECK(read(pair[0], text, 1) < 0 && errno == EAGAIN);
    CHECK(write(pair[1], "1", 1) == 1 && write(pair[1], "2", 1) == 1);
    reads(pair[0], "1", 1);
    reads(pair[0], "2", 1);
    return done();
}

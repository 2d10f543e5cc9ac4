/*
 * A pipe of 1 MiB, full to the last byte, and a pipe with all buffers in use although each holds
 * only three quarters of a page.
 */
#include "victim.h"

enum { SIZE = 1 << 20, PART = 3000 };
static char wrote[SIZE], got[SIZE];

int main(void)
{
    int full[2], parts[2], count = 0;
    for (int n = 0; n < SIZE; n++)
        wrote[n] = n * 7 + n / 4096;
    CHECK(pipe2(full, O_NONBLOCK) == 0 && pipe2(parts, O_NONBLOCK) == 0);
    CHECK_EQ(fcntl(full[1], F_SETPIPE_SZ, SIZE), SIZE);
    CHECK_EQ(write(full[1], wrote, SIZE), SIZE);
    while (write(parts[1], wrote + count * PART, PART) == PART)
        count++;
    CHECK(errno == EAGAIN && count == 16);
    checkpoint_here(1);
    CHECK(write(full[1], "x", 1) < 0 && errno == EAGAIN);
    CHECK(write(parts[1], wrote, PART) < 0 && errno == EAGAIN);
    CHECK_EQ(fcntl(full[1], F_GETPIPE_SZ), SIZE);
    CHECK(read(full[0], got, SIZE) == SIZE && memcmp(wrote, got, SIZE) == 0);
    CHECK(read(parts[0], got, SIZE) == count * PART && memcmp(wrote, got, count * PART) == 0);
    CHECK(write(full[1], wrote, SIZE) == SIZE && read(full[0], got, SIZE) == SIZE && memcmp(wrote, got, SIZE) == 0);
    return done();
}

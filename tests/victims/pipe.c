/*
 * Pipes: contents, flags and close-on-exec of both ends, capacity, owner. One end has several
 * descriptions, one description has both ends, and one pipe is empty.
 */
#include "victim.h"
#include <sys/ioctl.h>

int main(void)
{
    int pair[2], empty[2], waiting = 0;
    char text[64] = "";
    CHECK(pipe2(pair, O_CLOEXEC) == 0 && pipe(empty) == 0 && pair[0] == 3 && pair[1] == 4);
    CHECK(fcntl(pair[1], F_SETPIPE_SZ, 8192) == 8192 && fchmod(pair[0], 0640) == 0 && fchown(pair[0], 12, 34) == 0);
    int reader = open("/proc/self/fd/4", O_RDONLY | O_NONBLOCK), writer = open("/proc/self/fd/3", O_WRONLY | O_APPEND);
    int both = open("/proc/self/fd/3", O_RDWR | O_NOATIME), twin = dup(pair[1]);
    int fds[] = {pair[0], pair[1], empty[0], empty[1], reader, writer, both, twin}, flags[8];
    CHECK(fcntl(empty[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
    CHECK(write(pair[1], "one ", 4) == 4 && write(writer, "two", 3) == 3);
    for (int n = 0; n < 8; n++)
        flags[n] = fcntl(fds[n], F_GETFL);

    checkpoint_here(1);

    struct stat st, other;
    for (int n = 0; n < 8; n++)
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
    CHECK(fcntl(pair[0], F_GETFD) == FD_CLOEXEC && fcntl(empty[0], F_GETFD) == 0);
    CHECK_EQ(fcntl(reader, F_GETPIPE_SZ), 8192);
    CHECK_EQ(fcntl(empty[1], F_GETPIPE_SZ), 65536);
    CHECK(fstat(pair[0], &st) == 0 && fstat(writer, &other) == 0 && st.st_ino == other.st_ino);
    CHECK((st.st_mode & 07777) == 0640 && st.st_uid == 12 && st.st_gid == 34);
    CHECK(ioctl(writer, FIONREAD, &waiting) == 0 && waiting == 7);
    CHECK(read(reader, text, 4) == 4 && strcmp(text, "one ") == 0);
    CHECK(read(both, text, 64) == 3 && memcmp(text, "two", 3) == 0);
    CHECK(read(reader, text, 1) < 0 && errno == EAGAIN && read(empty[0], text, 1) < 0 && errno == EAGAIN);
    /* A flag belongs to one description and to all its duplicates. */
    CHECK(fcntl(twin, F_SETFL, 0) == 0 && !(fcntl(pair[1], F_GETFL) & O_NONBLOCK));
    CHECK(fcntl(reader, F_GETFL) & O_NONBLOCK && !(fcntl(pair[0], F_GETFL) & O_NONBLOCK));
    CHECK(write(empty[1], "last", 4) == 4 && read(empty[0], text, 64) == 4 && memcmp(text, "last", 4) == 0);
    CHECK(write(both, "back", 4) == 4 && read(pair[0], text, 64) == 4 && memcmp(text, "back", 4) == 0);
    return done();
}

/*
 * F_GETFL returns the same flags for every flag that open(2) keeps in a description, in combination
 * with all sorts of other flags.
 */
#include "victim.h"

enum { HOWS = 11 };

int main(void)
{
    static const int hows[HOWS] = {
        O_RDONLY, O_WRONLY, 3 /* for ioctl(2) only */, O_RDWR | O_DIRECT, O_RDWR | O_NOFOLLOW, O_RDONLY | O_DIRECTORY,
        O_RDWR | O_NOCTTY | O_CLOEXEC, O_RDWR | O_SYNC | O_NOATIME | O_APPEND, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK,
        O_RDWR | 0100000 /* O_LARGEFILE */, O_WRONLY | O_APPEND | O_DIRECT | O_DSYNC | O_NONBLOCK | O_NOFOLLOW,
    };
    int fds[HOWS], flags[HOWS];
    char *page = aligned_alloc(4096, 4096);
    struct stat st;
    memset(page, 'x', 4096);
    CHECK(close(open("file", O_RDWR | O_CREAT, 0600)) == 0 && truncate("file", 8192) == 0);
    for (int n = 0; n < HOWS; n++) {
        fds[n] = open(hows[n] & O_DIRECTORY ? "." : "file", hows[n]);
        CHECK(fds[n] >= 0 && (flags[n] = fcntl(fds[n], F_GETFL)) != -1);
    }
    checkpoint_here(1);
    for (int n = 0; n < HOWS; n++) {
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
        CHECK_EQ(fcntl(fds[n], F_GETFD), hows[n] & O_CLOEXEC ? FD_CLOEXEC : 0);
    }
    CHECK(read(fds[2], page, 1) < 0 && errno == EBADF && write(fds[2], page, 1) < 0 && errno == EBADF);
    CHECK(pwrite(fds[3], page, 4096, 4096) == 4096 && pwrite(fds[3], page, 100, 0) < 0 && errno == EINVAL);
    CHECK(write(fds[10], page, 4096) == 4096 && fstat(fds[0], &st) == 0);
    CHECK_EQ(st.st_size, 8192 + 4096);
    return done();
}

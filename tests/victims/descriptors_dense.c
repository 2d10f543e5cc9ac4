/*
 * As many descriptors as RLIMIT_NOFILE allows but one, without a gap. Some share a description,
 * some are closed at exec(3). Their offsets do not ascend with their numbers.
 */
#include "victim.h"
#include <sys/resource.h>

enum { LIMIT = 1000 };

/* The offset of a descriptor: the one after it shares its description. */
static off_t offset(int fd)
{
    return (LIMIT - fd / 2) * 7;
}

int main(void)
{
    struct rlimit limit = {LIMIT, LIMIT};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(open("f", O_RDWR | O_CREAT, 0600) == 3);
    for (int fd = 4; fd < LIMIT - 1; fd++) {
        CHECK_EQ(fd % 2 ? dup(fd - 1) : open("f", O_RDWR), fd);
        CHECK(lseek(fd, offset(fd), SEEK_SET) == offset(fd) && fcntl(fd, F_SETFD, fd % 3 ? 0 : FD_CLOEXEC) == 0);
    }
    checkpoint_here(1);
    for (int fd = 4; fd < LIMIT - 1; fd++) {
        CHECK_EQ(lseek(fd, 0, SEEK_CUR), offset(fd));
        CHECK_EQ(fcntl(fd, F_GETFD), fd % 3 ? 0 : FD_CLOEXEC);
        if (fd % 2) {
            CHECK(lseek(fd, 1, SEEK_SET) == 1 && lseek(fd - 1, 0, SEEK_CUR) == 1);
            CHECK(lseek(fd, offset(fd), SEEK_SET) == offset(fd));
        }
    }
    CHECK_EQ(open("f", O_RDWR), LIMIT - 1);
    CHECK(open("f", O_RDWR) < 0 && errno == EMFILE && close(LIMIT - 1) == 0);
    return done();
}

/*
 * A locked file (flock) that is also mapped, shared and privately. The lock ends when the process
 * releases it, even if the image is still being read.
 */
#include "victim.h"
#include <sys/file.h>

int main(void)
{
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 8192) == 0 && flock(fd, LOCK_EX) == 0);
    char *shared = mmap(NULL, 8192, RW, MAP_SHARED, fd, 0), *private = mmap(NULL, 8192, RW, MAP_PRIVATE, fd, 0);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED);
    strcpy(shared, "seen by both"), strcpy(private + 4096, "mine alone");
    CHECK(madvise(shared, 8192, MADV_SEQUENTIAL) == 0);

    checkpoint_here(1);

    CHECK(strcmp(shared, "seen by both") == 0 && strcmp(private, "seen by both") == 0);
    CHECK(strcmp(private + 4096, "mine alone") == 0 && shared[4096] == 0);
    int other = open("data", O_RDWR);
    CHECK(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    CHECK(munmap(shared, 8192) == 0 && munmap(private, 8192) == 0 && close(fd) == 0);
    CHECK(flock(other, LOCK_EX | LOCK_NB) == 0);
    return done();
}

/*
 * A mapped file is locked (flock) only after the checkpoint. A reader that still reads the image
 * does not keep the lock.
 */
#include "victim.h"
#include <sys/file.h>

int main(void)
{
    int fd = open("data", O_RDWR | O_CREAT, 0600), other = open("data", O_RDWR);
    CHECK(fd >= 0 && other >= 0 && ftruncate(fd, 8192) == 0);
    char *shared = mmap(NULL, 8192, RW, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED && madvise(shared, 8192, MADV_RANDOM) == 0);

    checkpoint_here(1);

    CHECK(flock(fd, LOCK_EX) == 0 && flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    strcpy(shared, "still shared");
    CHECK(munmap(shared, 8192) == 0 && close(fd) == 0);
    CHECK(flock(other, LOCK_EX | LOCK_NB) == 0);
    char text[16];
    CHECK(pread(other, text, 13, 0) == 13 && strcmp(text, "still shared") == 0);
    return done();
}

/*
 * memfd_create(2): contents with holes, seals, name, mode, size, several descriptions, mapped
 * shared and privately.
 */
#include "victim.h"

enum { SIZE = 3 << 20, ODD = 12345 };

int main(void)
{
    int fd = memfd_create("a name", MFD_ALLOW_SEALING | MFD_CLOEXEC), odd = memfd_create("", 0);
    CHECK(fd >= 0 && odd >= 0 && ftruncate(fd, SIZE) == 0 && ftruncate(odd, ODD) == 0);
    CHECK(pwrite(fd, "first", 5, 0) == 5 && pwrite(fd, "last", 4, SIZE - 4) == 4 && pwrite(odd, "tail", 4, ODD - 4) == 4);
    CHECK(fchmod(fd, 0640) == 0 && fchown(fd, 12, 34) == 0 && lseek(fd, 1000, SEEK_SET) == 1000);
    int shares = dup(fd), apart = open("/proc/self/fd/3", O_RDONLY | O_APPEND);
    CHECK(fd == 3 && lseek(apart, 77, SEEK_SET) == 77);
    char *shared = mmap(NULL, SIZE, RW, MAP_SHARED, fd, 0), *private = mmap(NULL, SIZE, RW, MAP_PRIVATE, fd, 0);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED);
    strcpy(shared + 8192, "through the mapping");
    strcpy(private + 4096, "mine alone");
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
    struct stat before, after;
    CHECK(fstat(fd, &before) == 0);

    checkpoint_here(1);

    char text[64] = "", link[64] = "";
    CHECK(fstat(fd, &after) == 0);
    CHECK_EQ(after.st_size, SIZE);
    CHECK_EQ(after.st_blocks, before.st_blocks);
    CHECK_EQ(after.st_mode, before.st_mode);
    CHECK(after.st_uid == 12 && after.st_gid == 34 && after.st_nlink == 0);
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strcmp(link, "/memfd:a name (deleted)") == 0);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
    CHECK_EQ(fcntl(odd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(odd, F_GETFD) == 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 1000);
    CHECK_EQ(lseek(apart, 0, SEEK_CUR), 77);
    CHECK(fcntl(apart, F_GETFL) & O_APPEND);
    CHECK(lseek(shares, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5 && lseek(apart, 0, SEEK_CUR) == 77);
    CHECK(pread(apart, text, 5, 0) == 5 && strcmp(text, "first") == 0);
    CHECK(pread(fd, text, 4, SIZE - 4) == 4 && memcmp(text, "last", 4) == 0);
    CHECK(pread(odd, text, 64, ODD - 4) == 4 && memcmp(text, "tail", 4) == 0);
    CHECK(strcmp(shared + 8192, "through the mapping") == 0 && strcmp(private + 4096, "mine alone") == 0);
    CHECK(strcmp(private + 8192, "through the mapping") == 0 && shared[4096] == 0);
    /* It is still one object: a change through one mapping or description shows in the others. */
    strcpy(shared + 40960, "after");
    CHECK(pread(apart, text, 6, 40960) == 6 && strcmp(text, "after") == 0);
    CHECK(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM);
    CHECK(ftruncate(fd, 2 * SIZE) < 0 && errno == EPERM);
    CHECK(ftruncate(odd, 2 * ODD) == 0);
    return done();
}

/*
 * An unlinked file: contents with holes, name, mode, owner, times, extended attributes. It has
 * several descriptions, O_APPEND, positions and O_PATH.
 */
#include "victim.h"
#include <sys/xattr.h>

enum { SIZE = 3 << 20, ODD = 12345 };

int main(void)
{
    char name[] = "a name with\nnewline", link[512] = "", text[64] = "";
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600), odd = open("odd", O_RDWR | O_CREAT, 0600);
    int empty = open("empty", O_WRONLY | O_CREAT, 0000), apart = open(name, O_RDWR | O_APPEND), shares = dup(fd);
    CHECK(fd == 3 && apart >= 0 && empty >= 0 && ftruncate(fd, SIZE) == 0 && ftruncate(odd, ODD) == 0);
    CHECK(pwrite(fd, "first", 5, 0) == 5 && pwrite(fd, "last", 4, SIZE - 4) == 4 && pwrite(odd, "tail", 4, ODD - 4) == 4);
    CHECK(fsetxattr(fd, "trusted.victim", "value", 5, 0) == 0);
    CHECK(fchown(fd, 12, 34) == 0 && fchmod(fd, 06751) == 0 && lseek(fd, 1000, SEEK_SET) == 1000);
    CHECK(futimens(fd, (struct timespec[2]){{123, 456}, {-5, 999999999}}) == 0 && lseek(apart, 77, SEEK_SET) == 77);
    CHECK(unlink(name) == 0 && unlink("odd") == 0 && unlink("empty") == 0);
    int reader = open("/proc/self/fd/3", O_RDONLY), path = open("/proc/self/fd/3", O_PATH);
    CHECK(reader >= 0 && path >= 0);
    struct stat before, after;
    CHECK(fstat(fd, &before) == 0);
    int flags = fcntl(apart, F_GETFL), path_flags = fcntl(path, F_GETFL);

    checkpoint_here(1);

    CHECK(fstat(fd, &after) == 0);
    CHECK_EQ(after.st_size, SIZE);
    CHECK_EQ(after.st_blocks, before.st_blocks);
    CHECK_EQ(after.st_mode, before.st_mode);
    CHECK(after.st_uid == 12 && after.st_gid == 34 && after.st_nlink == 0 && after.st_dev == before.st_dev);
    CHECK(after.st_mtim.tv_sec == -5 && after.st_mtim.tv_nsec == 999999999 && after.st_atim.tv_sec == 123);
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strstr(link, "/a name with\nnewline (deleted)"));
    CHECK(access(name, F_OK) < 0 && access("odd", F_OK) < 0);
    CHECK(fgetxattr(fd, "trusted.victim", text, 64) == 5 && memcmp(text, "value", 5) == 0);
    CHECK_EQ(fcntl(apart, F_GETFL), flags);
    CHECK_EQ(fcntl(path, F_GETFL), path_flags);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(apart, F_GETFD) == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 1000 && lseek(apart, 0, SEEK_CUR) == 77 && lseek(reader, 0, SEEK_CUR) == 0);
    CHECK(lseek(shares, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5 && lseek(apart, 0, SEEK_CUR) == 77);
    CHECK(read(reader, text, 5) == 5 && memcmp(text, "first", 5) == 0 && write(reader, "x", 1) < 0);
    CHECK(pread(fd, text, 4, SIZE - 4) == 4 && memcmp(text, "last", 4) == 0);
    CHECK(pread(odd, text, 64, ODD - 4) == 4 && memcmp(text, "tail", 4) == 0);
    /* It is still one file, and has no name. */
    CHECK(write(apart, "appended", 8) == 8 && pread(reader, text, 8, SIZE) == 8 && memcmp(text, "appended", 8) == 0);
    CHECK(fstat(path, &after) == 0 && after.st_size == SIZE + 8);
    CHECK(fstat(empty, &after) == 0 && after.st_size == 0 && (after.st_mode & 07777) == 0 && write(empty, "x", 1) == 1);
    CHECK(linkat(AT_FDCWD, "/proc/self/fd/3", AT_FDCWD, "again", AT_SYMLINK_FOLLOW) < 0 && errno == ENOENT);
    return done();
}

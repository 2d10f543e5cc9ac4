/*
 * Nodes that were removed while open: a symbolic link (O_PATH, with and without O_NOFOLLOW), device
 * nodes of null and zero. The name of the link is taken by another file.
 */
#include "victim.h"
#include <sys/sysmacros.h>

enum { KINDS = 6 };

int main(void)
{
    struct stat before[KINDS], after;
    char text[64] = "", proc[64];
    int fds[KINDS], flags[KINDS];
    CHECK(symlink("no such file", "link") == 0 && lchown("link", 12, 34) == 0);
    CHECK(mknod("null", S_IFCHR | 0640, makedev(1, 3)) == 0 && mknod("zero", S_IFCHR | 0666, makedev(1, 5)) == 0);
    fds[0] = open("link", O_PATH | O_NOFOLLOW);
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fds[0]);
    fds[1] = open(proc, O_PATH), fds[2] = open("null", O_WRONLY | O_APPEND), fds[3] = open("null", O_PATH);
    fds[4] = open("zero", O_RDONLY | O_CLOEXEC), fds[5] = dup(fds[2]);
    CHECK(unlink("link") == 0 && unlink("null") == 0 && unlink("zero") == 0);
    CHECK(close(open("link", O_WRONLY | O_CREAT | O_EXCL, 0600)) == 0);
    for (int n = 0; n < KINDS; n++)
        CHECK(fds[n] >= 0 && fstat(fds[n], &before[n]) == 0 && (flags[n] = fcntl(fds[n], F_GETFL)) >= 0);
    checkpoint_here(1);
    for (int n = 0; n < KINDS; n++) {
        CHECK(fstat(fds[n], &after) == 0 && after.st_mode == before[n].st_mode && after.st_rdev == before[n].st_rdev);
        CHECK(after.st_uid == before[n].st_uid && after.st_gid == before[n].st_gid && after.st_nlink == 0);
        CHECK(after.st_mtim.tv_sec == before[n].st_mtim.tv_sec && after.st_mtim.tv_nsec == before[n].st_mtim.tv_nsec);
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
    }
    CHECK(readlinkat(fds[0], "", text, sizeof text) == 12 && readlinkat(fds[1], "", text, sizeof text) == 12);
    CHECK(memcmp(text, "no such file", 12) == 0);
    CHECK(fstat(fds[2], &before[0]) == 0 && fstat(fds[3], &after) == 0 && before[0].st_ino == after.st_ino);
    CHECK(write(fds[2], "x", 1) == 1 && read(fds[4], text, 12) == 12 && text[0] == 0 && fcntl(fds[4], F_GETFD) == FD_CLOEXEC);
    CHECK(access("null", F_OK) != 0 && access("zero", F_OK) != 0);
    CHECK(stat("link", &after) == 0 && S_ISREG(after.st_mode));
    return done();
}

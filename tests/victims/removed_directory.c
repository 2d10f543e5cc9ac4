/*
 * Open directories that were removed: a single one, one inside another, and one with a new
 * directory at its name. Nothing can be created in them.
 */
#include "victim.h"
#include <sys/xattr.h>

int main(void)
{
    char link[512] = "", entries[512];
    struct stat before, after, st;
    CHECK(mkdir("dir", 0700) == 0 && mkdir("dir/inner", 0755) == 0 && mkdir("taken", 0711) == 0);
    int dir = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC), inner = open("dir/inner", O_PATH | O_DIRECTORY);
    int taken = open("taken", O_RDONLY), shares = dup(dir);
    CHECK(dir == 3 && inner >= 0 && taken >= 0 && fchmod(dir, 01751) == 0 && fchown(dir, 12, 34) == 0);
    CHECK(fsetxattr(dir, "trusted.victim", "value", 5, 0) == 0 && syscall(SYS_getdents64, taken, entries, 512) > 0);
    CHECK(rmdir("dir/inner") == 0 && rmdir("dir") == 0 && rmdir("taken") == 0 && mkdir("taken", 0700) == 0);
    CHECK(futimens(dir, (struct timespec[2]){{1, 2}, {3, 4}}) == 0 && fstat(dir, &before) == 0);
    int again = open("/proc/self/fd/3", O_RDONLY | O_NONBLOCK), flags = fcntl(dir, F_GETFL), path_flags = fcntl(inner, F_GETFL);

    checkpoint_here(1);

    CHECK(fstat(dir, &after) == 0 && after.st_nlink == 0 && after.st_uid == 12 && after.st_gid == 34);
    CHECK_EQ(after.st_mode, before.st_mode);
    CHECK(after.st_mtim.tv_sec == 3 && after.st_mtim.tv_nsec == 4 && after.st_atim.tv_sec == 1);
    CHECK(fgetxattr(dir, "trusted.victim", entries, 512) == 5 && fstat(again, &st) == 0 && st.st_ino == after.st_ino);
    CHECK_EQ(fcntl(dir, F_GETFL), flags);
    CHECK_EQ(fcntl(inner, F_GETFL), path_flags);
    CHECK((fcntl(again, F_GETFL) & O_NONBLOCK) && fcntl(dir, F_GETFD) == FD_CLOEXEC && fcntl(shares, F_GETFD) == 0);
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strstr(link, "/dir (deleted)"));
    CHECK(syscall(SYS_getdents64, dir, entries, 512) < 0 && errno == ENOENT);
    CHECK(openat(dir, "new", O_RDWR | O_CREAT, 0600) < 0 && errno == ENOENT && mkdirat(inner, "new", 0700) < 0);
    CHECK(access("dir", F_OK) < 0 && fstat(taken, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0711);
    CHECK(stat("taken", &after) == 0 && after.st_ino != st.st_ino && (after.st_mode & 07777) == 0700);
    CHECK(rmdir("taken") == 0); /* rmdir succeeds only if the restore left nothing in it */
    return done();
}

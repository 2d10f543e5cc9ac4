/*
 * Files made without a name (O_TMPFILE) keep this flag and can still be linked. A file that was
 * linked already is found by its name.
 */
#include "victim.h"

static void name_it(int fd, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0);
}

int main(void)
{
    static const int how[] = {O_RDWR, O_WRONLY | O_SYNC | O_APPEND, O_RDWR | O_NONBLOCK};
    int fds[3], flags[3];
    struct stat st;
    for (int n = 0; n < 3; n++) {
        fds[n] = open(".", O_TMPFILE | how[n], 0640);
        CHECK(fds[n] >= 0 && write(fds[n], "twelve bytes", 12) == 12 && (flags[n] = fcntl(fds[n], F_GETFL)) != -1);
    }
    char *map = mmap(NULL, 4096, RW, MAP_SHARED, fds[2], 0);
    int linked = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(map != MAP_FAILED && write(linked, "named", 5) == 5);
    name_it(linked, "linked");
    checkpoint_here(1);
    for (int n = 0; n < 3; n++) {
        char name[16];
        snprintf(name, sizeof name, "name%d", n);
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
        CHECK(lseek(fds[n], 0, SEEK_CUR) == 12 && fstat(fds[n], &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0640);
        CHECK(write(fds[n], "more", 4) == 4);
        name_it(fds[n], name);
        CHECK(stat(name, &st) == 0 && st.st_size == 16);
    }
    CHECK(memcmp(map, "twelve bytesmore", 16) == 0);
    CHECK(lseek(linked, 0, SEEK_END) == 5 && stat("linked", &st) == 0 && st.st_nlink == 1);
    CHECK(write(linked, "x", 1) == 1 && stat("linked", &st) == 0 && st.st_size == 6);
    return done();
}

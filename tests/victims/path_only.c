/*
 * O_PATH descriptors: of a file, a directory, a symbolic link itself (with and without O_NOFOLLOW),
 * a FIFO, a socket, a device.
 */
#include "victim.h"
#include <sys/socket.h>
#include <sys/un.h>

enum { KINDS = 8 };

int main(void)
{
    struct sockaddr_un address = {AF_UNIX, "socket"};
    struct stat before[KINDS], after;
    char text[16] = "", proc[64];
    int fds[KINDS], flags[KINDS], listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&address, sizeof address) == 0 && close(listener) == 0);
    CHECK(mkfifo("fifo", 0600) == 0 && mkdir("dir", 0700) == 0 && symlink("no such file", "link") == 0);
    CHECK(close(open("dir/file", O_RDWR | O_CREAT, 0600)) == 0);
    fds[0] = open("dir/file", O_PATH | O_CLOEXEC), fds[1] = open("dir", O_PATH | O_DIRECTORY), fds[2] = open("link", O_PATH | O_NOFOLLOW);
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fds[2]);
    fds[3] = open(proc, O_PATH), fds[4] = open("fifo", O_PATH), fds[5] = open("socket", O_PATH | O_NOFOLLOW);
    fds[6] = open("/dev/full", O_PATH), fds[7] = open("/proc/self", O_PATH);
    for (int n = 0; n < KINDS; n++)
        CHECK(fds[n] >= 0 && fstat(fds[n], &before[n]) == 0 && (flags[n] = fcntl(fds[n], F_GETFL)) & O_PATH);
    int shares = dup(fds[1]);
    checkpoint_here(1);
    for (int n = 0; n < KINDS; n++) {
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
        CHECK(fstat(fds[n], &after) == 0 && after.st_mode == before[n].st_mode && after.st_rdev == before[n].st_rdev);
        CHECK(n == 7 || after.st_ino == before[n].st_ino);
        CHECK(read(fds[n], text, 1) < 0 && errno == EBADF);
    }
    CHECK(fcntl(fds[0], F_GETFD) == FD_CLOEXEC && fcntl(fds[1], F_GETFD) == 0);
    CHECK(faccessat(fds[1], "file", F_OK, 0) == 0 && faccessat(shares, "file", F_OK, 0) == 0);
    CHECK(readlinkat(fds[2], "", text, sizeof text) == 12 && readlinkat(fds[3], "", text, sizeof text) == 12);
    int whose = openat(fds[7], "status", O_RDONLY);
    CHECK(whose >= 0 && faccessat(fds[7], "task", F_OK, 0) == 0);
    return done();
}

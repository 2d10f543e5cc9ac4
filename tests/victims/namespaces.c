/*
 * Descriptors of every namespace that the process is in, one opened with O_PATH. They can be
 * entered.
 */
#include "victim.h"

enum { KINDS = 8 };

int main(void)
{
    static const char *names[KINDS] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    char name[64], link[64] = "";
    int fds[KINDS], flags[KINDS];
    struct stat before[KINDS], after;
    for (int n = 0; n < KINDS; n++) {
        snprintf(name, sizeof name, "/proc/self/ns/%s", names[n]);
        fds[n] = open(name, n == 5 ? O_PATH : n == 0 ? O_RDONLY | O_CLOEXEC : O_RDONLY);
        CHECK(fds[n] >= 0 && fstat(fds[n], &before[n]) == 0 && (flags[n] = fcntl(fds[n], F_GETFL)) >= 0);
    }
    int shares = dup(fds[1]);
    checkpoint_here(1);
    for (int n = 0; n < KINDS; n++) {
        CHECK(fstat(fds[n], &after) == 0 && after.st_ino == before[n].st_ino && after.st_dev == before[n].st_dev);
        CHECK_EQ(fcntl(fds[n], F_GETFL), flags[n]);
        snprintf(name, sizeof name, "/proc/self/fd/%d", fds[n]);
        CHECK(readlink(name, link, sizeof link - 1) > 0 && strncmp(link, names[n], strlen(names[n])) == 0);
    }
    CHECK(fcntl(fds[0], F_GETFD) == FD_CLOEXEC && fcntl(fds[1], F_GETFD) == 0 && fcntl(shares, F_GETFD) == 0);
    CHECK(setns(fds[7], CLONE_NEWUTS) == 0 && setns(fds[3], CLONE_NEWNET) == 0);
    return done();
}

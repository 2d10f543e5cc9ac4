/*
 * The status flags of open files: O_APPEND, O_NONBLOCK, O_NOATIME, O_SYNC, O_DSYNC. A restore does
 * not repeat the effects of O_CREAT, O_TRUNC and O_EXCL.
 */
#include "victim.h"

int main(void)
{
    static const int flags[] = {O_APPEND, O_NONBLOCK, O_NOATIME, O_SYNC, O_DSYNC, O_APPEND | O_NONBLOCK};
    int fds[6], seen[6];
    struct stat st;
    char name[16];
    for (int n = 0; n < 6; n++) {
        snprintf(name, sizeof name, "data%d", n);
        fds[n] = open(name, O_RDWR | O_CREAT | O_TRUNC | O_EXCL | flags[n], 0600);
        CHECK(fds[n] >= 0 && write(fds[n], "twelve bytes", 12) == 12);
        seen[n] = fcntl(fds[n], F_GETFL);
    }
    checkpoint_here(1);
    for (int n = 0; n < 6; n++) {
        CHECK_EQ(fcntl(fds[n], F_GETFL), seen[n]);
        CHECK(fstat(fds[n], &st) == 0 && st.st_size == 12);
    }
    CHECK(lseek(fds[0], 0, SEEK_SET) == 0 && write(fds[0], "x", 1) == 1 && fstat(fds[0], &st) == 0);
    CHECK_EQ(st.st_size, 13);
    return done();
}

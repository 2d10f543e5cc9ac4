/* RLIMIT_NOFILE is below the number of an open descriptor. It limits new descriptors only. */
#include "victim.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit few = {10, 10}, seen;
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(dup2(fd, 90) == 90 && lseek(90, 4, SEEK_SET) == 4 && setrlimit(RLIMIT_NOFILE, &few) == 0);
    checkpoint_here(1);
    CHECK(getrlimit(RLIMIT_NOFILE, &seen) == 0 && seen.rlim_cur == 10 && seen.rlim_max == 10);
    CHECK_EQ(lseek(90, 0, SEEK_CUR), 4);
    return done();
}

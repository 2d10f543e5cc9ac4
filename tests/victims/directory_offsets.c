/*
 * Directories of ext4 and tmpfs, read up to some position. The remaining entries follow, none twice
 * and none missing. Rewinding works.
 */
#include "victim.h"
#include <dirent.h>

enum { FILES = 300 };

static int step(int dir, int seen[FILES], size_t room)
{
    char buffer[4096];
    long len = syscall(SYS_getdents64, dir, buffer, room);
    CHECK(len >= 0);
    for (long at = 0; at < len; at += ((struct dirent64 *)(buffer + at))->d_reclen)
        if (((struct dirent64 *)(buffer + at))->d_name[0] == 'f')
            seen[atoi(((struct dirent64 *)(buffer + at))->d_name + 1)]++;
    return len > 0;
}

int main(void)
{
    static int seen[4][FILES];
    char shm[64], name[16];
    int dirs[4];
    snprintf(shm, sizeof shm, "/dev/shm/ckptfs-victim-dir-%d", getpid());
    CHECK(mkdir("dir", 0700) == 0 && mkdir(shm, 0700) == 0);
    for (int d = 0; d < 4; d++) {
        dirs[d] = open(d % 2 ? shm : "dir", O_RDONLY | O_DIRECTORY);
        for (int n = 0; d < 2 && n < FILES; n++) {
            snprintf(name, sizeof name, "f%d", n);
            CHECK(close(openat(dirs[d], name, O_RDWR | O_CREAT, 0600)) == 0);
        }
    }
    for (int d = 0; d < 4; d++) /* two stop in the middle, two at the end */
        for (int n = 0; (d > 1 || n < 7) && step(dirs[d], seen[d], 512); n++)
            ;
    checkpoint_here(1);
    for (int d = 0; d < 4; d++) {
        CHECK(d < 2 ? step(dirs[d], seen[d], 4096) : !step(dirs[d], seen[d], 4096));
        while (step(dirs[d], seen[d], 4096))
            ;
        for (int n = 0; n < FILES; n++)
            CHECK_EQ(seen[d][n], 1);
        CHECK(lseek(dirs[d], 0, SEEK_SET) == 0 && step(dirs[d], seen[d], 4096));
    }
    for (int n = 0; n < FILES; n++) {
        snprintf(name, sizeof name, "f%d", n);
        CHECK(unlinkat(dirs[1], name, 0) == 0);
    }
    CHECK(rmdir(shm) == 0);
    return done();
}

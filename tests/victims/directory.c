/* An open directory continues at its read position, and still works with openat(2). */
#include "victim.h"
#include <dirent.h>

int main(void)
{
    char name[16];
    int seen[50] = {0}, total = 0;
    CHECK(mkdir("dir", 0755) == 0);
    int dir = open("dir", O_RDONLY | O_DIRECTORY);
    for (int n = 0; n < 50; n++) {
        snprintf(name, sizeof name, "%d", n);
        close(openat(dir, name, O_RDWR | O_CREAT, 0600));
    }
    char buffer[512];
    for (int round = 0;; round++) {
        long len = syscall(SYS_getdents64, dir, buffer, sizeof buffer);
        CHECK(len >= 0);
        if (len == 0)
            break;
        for (long at = 0; at < len; at += ((struct dirent64 *)(buffer + at))->d_reclen) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            if (entry->d_name[0] != '.')
                seen[atoi(entry->d_name)]++, total++;
        }
        if (round == 1)
            checkpoint_here(1);
    }
    CHECK_EQ(total, 50);
    for (int n = 0; n < 50; n++)
        CHECK_EQ(seen[n], 1);
    CHECK(openat(dir, "7", O_RDONLY) >= 0 && (fcntl(dir, F_GETFL) & O_DIRECTORY));
    return done();
}

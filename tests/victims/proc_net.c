/*
 * Files of /proc/self/net show the restored process. /proc marks such a file as deleted once its
 * name has been looked up again.
 */
#include "victim.h"

enum { COUNT = 3 };

int main(void)
{
    static const char *const names[COUNT] = {"/proc/self/net/dev", "/proc/thread-self/net/route", "/proc/net/stat/arp_cache"};
    char path[64], link[128] = "", text[4096] = "", again[4096];
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        CHECK((fds[i] = open(names[i], O_RDONLY)) >= 0 && read(fds[i], text, 10 + i) == 10 + i);
        CHECK(access(names[i], R_OK) == 0);
    }
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strstr(link, " (deleted)"));

    checkpoint_here(1);

    snprintf(path, sizeof path, "/proc/%d/net/dev", getpid());
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strncmp(link, path, strlen(path)) == 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(lseek(fds[i], 0, SEEK_CUR), 10 + i);
        int fd = open(names[i], O_RDONLY);
        ssize_t len = pread(fds[i], text, 60, 0);
        CHECK(fd >= 0 && len > 40 && pread(fd, again, 60, 0) == len && memcmp(text, again, 40) == 0);
        CHECK(read(fds[i], again, 20) == 20 && memcmp(again, text + 10 + i, 20) == 0);
    }
    return done();
}

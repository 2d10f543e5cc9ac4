/* Files and directories of /proc and /sys that belong to no process keep their offsets. */
#include "victim.h"

int main(void)
{
    char before[64] = "", after[64] = "", entries[512];
    int meminfo = open("/proc/meminfo", O_RDONLY), version = open("/proc/version", O_RDONLY), dir = open("/proc", O_RDONLY);
    int host = open("/proc/sys/kernel/ostype", O_RDONLY), kernel = open("/sys/kernel", O_RDONLY | O_DIRECTORY);
    int size = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY), one = open("/sys/kernel/fscaps", O_RDONLY);
    CHECK(meminfo >= 0 && version >= 0 && dir >= 0 && host >= 0 && kernel >= 0 && one >= 0);
    CHECK(read(meminfo, before, 9) == 9 && strcmp(before, "MemTotal:") == 0 && pread(version, before, 60, 6) == 60);
    CHECK(lseek(version, 6, SEEK_SET) == 6 && read(host, after, 2) == 2 && syscall(SYS_getdents64, kernel, entries, 100) > 0);
    off_t where = lseek(kernel, 0, SEEK_CUR);
    checkpoint_here(1);
    CHECK(lseek(meminfo, 0, SEEK_CUR) == 9 && read(version, after, 60) == 60 && strcmp(before, after) == 0);
    CHECK(pread(meminfo, after, 9, 0) == 9 && memcmp(after, "MemTotal:", 9) == 0);
    CHECK(read(host, after, 8) == 4 && memcmp(after, "nux\n", 4) == 0 && lseek(kernel, 0, SEEK_CUR) == where);
    CHECK(syscall(SYS_getdents64, kernel, entries, sizeof entries) > 0 && syscall(SYS_getdents64, dir, entries, 512) > 0);
    CHECK((size < 0 || pread(size, after, 8, 0) == 8) && pread(one, after, 2, 0) == 2);
    return done();
}

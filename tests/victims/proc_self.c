/*
 * Files and directories of /proc/self show the restored process, at their old offsets. Those of
 * another process (/proc/1) still show that process.
 */
#include "victim.h"
#include <dirent.h>

int main(void)
{
    char path[64], text[4096] = "", link[128] = "";
    volatile int word = 4711;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    int mem = open("/proc/self/mem", O_RDWR), comm = open("/proc/thread-self/comm", O_RDWR), self = open("/proc/self", O_PATH);
    int status = open("/proc/self/status", O_RDONLY), mounts = open("/proc/mounts", O_RDONLY), task = open("/proc/self/task", O_RDONLY);
    int init = open("/proc/1/status", O_RDONLY);
    CHECK(maps == 3 && fd >= 0 && mem >= 0 && comm >= 0 && self >= 0 && status >= 0 && mounts >= 0 && task >= 0 && init >= 0);
    CHECK(read(maps, text, 100) == 100 && read(status, text, 20) == 20 && read(init, text, 6) == 6);
    CHECK(lseek(mem, (off_t)(uintptr_t)&word, SEEK_SET) == (off_t)(uintptr_t)&word);
    CHECK(syscall(SYS_getdents64, fd, text, 100) > 0);
    struct dirent64 *first = (struct dirent64 *)text;
    CHECK(strcmp(first->d_name, ".") == 0);
    int flags = fcntl(maps, F_GETFL);

    checkpoint_here(1);

    CHECK_EQ(fcntl(maps, F_GETFL), flags);
    CHECK(lseek(maps, 0, SEEK_CUR) == 100 && lseek(status, 0, SEEK_CUR) == 20 && lseek(init, 0, SEEK_CUR) == 6);
    snprintf(path, sizeof path, "/proc/%d/maps", getpid());
    CHECK(readlink("/proc/self/fd/3", link, sizeof link) > 0 && strcmp(link, path) == 0);
    CHECK(read(mem, (void *)&(int){0}, 4) == 4 && pwrite(mem, &(int){42}, 4, (off_t)(uintptr_t)&word) == 4 && word == 42);
    memset(text, 0, sizeof text);
    CHECK(pread(maps, text, sizeof text - 1, 0) > 0 && strstr(text, "proc_self"));
    memset(text, 0, sizeof text);
    snprintf(path, sizeof path, "Pid:\t%d\n", getpid());
    CHECK(pread(status, text, sizeof text - 1, 0) > 0 && strstr(text, path));
    memset(text, 0, sizeof text);
    CHECK(pread(init, text, sizeof text - 1, 0) > 0 && strstr(text, "\nPid:\t1\n"));
    CHECK(write(comm, "renamed", 7) == 7 && prctl(PR_GET_NAME, text) == 0 && strcmp(text, "renamed") == 0);
    CHECK(faccessat(self, "maps", F_OK, 0) == 0 && syscall(SYS_getdents64, task, text, sizeof text) > 0);
    /* getdents64 returns the rest of the directory, because "." has been read. */
    CHECK(syscall(SYS_getdents64, fd, text, sizeof text) > 0 && strcmp(first->d_name, ".") != 0);
    CHECK(read(mounts, text, 16) == 16);
    return done();
}

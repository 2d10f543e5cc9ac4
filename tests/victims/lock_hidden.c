/*
 * Locks (flock) that only a mapping holds: each file was opened, locked, mapped and closed. One is
 * exclusive and mapped shared, in two parts. One is shared and mapped privately. A child inherits
 * both mappings, and the exclusive lock ends with the last of them.
 */
#include "victim.h"
#include <sys/file.h>
#include <sys/wait.h>

static char *locked(const char *name, int how, int flags)
{
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 8192) == 0 && pwrite(fd, "counters", 8, 0) == 8 && flock(fd, how) == 0);
    char *map = mmap(NULL, 8192, RW, flags, fd, 0);
    CHECK(map != MAP_FAILED && close(fd) == 0);
    return map;
}

static int can_lock(const char *name, int how)
{
    int fd = open(name, O_RDWR);
    CHECK(fd >= 0);
    int got = flock(fd, how | LOCK_NB);
    CHECK(got == 0 || errno == EWOULDBLOCK);
    close(fd);
    return got == 0;
}

int main(void)
{
    char *exclusive = locked("exclusive", LOCK_EX, MAP_SHARED), *shared = locked("shared", LOCK_SH, MAP_PRIVATE);
    CHECK(mprotect(exclusive + 4096, 4096, PROT_READ) == 0);
    int told[2];
    CHECK(pipe(told) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(told[1]);
        _exit(read(told[0], &byte, 1) == 0 && strcmp(exclusive, "changed") == 0 ? 0 : 1);
    }
    CHECK(child > 0 && close(told[0]) == 0);

    checkpoint_here(1);

    CHECK(strcmp(exclusive, "counters") == 0 && strcmp(shared, "counters") == 0);
    CHECK(!can_lock("exclusive", LOCK_SH) && !can_lock("shared", LOCK_EX) && can_lock("shared", LOCK_SH));
    strcpy(exclusive, "changed");
    CHECK(munmap(exclusive, 8192) == 0 && !can_lock("exclusive", LOCK_SH));
    int status;
    CHECK(close(told[1]) == 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(can_lock("exclusive", LOCK_EX) && !can_lock("shared", LOCK_EX));
    CHECK(munmap(shared, 8192) == 0 && can_lock("shared", LOCK_EX));
    return done();
}

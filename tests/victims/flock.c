/*
 * flock(2): exclusive and shared locks, on a duplicated description, a directory and a memfd. One
 * thread waits for a lock.
 */
#include "victim.h"
#include <sys/file.h>
#include <sys/wait.h>

static int waits;
static volatile pid_t waiter;

static void *blocked(void *unused)
{
    waiter = gettid();
    CHECK(flock(waits, LOCK_EX) == 0);
    return unused;
}

/*
 * Returns 1 if another process gets the lock `how` on a description of its own. The lock ends with
 * that process.
 */
static int others_get(const char *path, int how)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int fd = open(path, O_RDONLY);
        _exit(fd < 0 ? 2 : flock(fd, how | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? 1 : 2);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

int main(void)
{
    int alone = open("alone", O_RDWR | O_CREAT, 0600), also = dup(alone), shared = open("shared", O_RDONLY | O_CREAT, 0600);
    int second = open("shared", O_RDWR), dir = open(".", O_RDONLY | O_DIRECTORY), memory = memfd_create("locked", 0);
    int free = open("free", O_RDWR | O_CREAT, 0600);
    waits = open("alone", O_RDONLY | O_CLOEXEC);
    char memory_path[64];
    snprintf(memory_path, sizeof memory_path, "/proc/%d/fd/%d", getpid(), memory);
    CHECK(alone == 3 && also > 0 && shared > 0 && second > 0 && dir > 0 && memory > 0 && free > 0 && waits > 0);
    CHECK(flock(also, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0 && flock(second, LOCK_SH) == 0);
    CHECK(flock(dir, LOCK_EX) == 0 && flock(memory, LOCK_SH) == 0);
    CHECK(flock(free, LOCK_EX) == 0 && flock(free, LOCK_UN) == 0);
    pthread_t thread = start(blocked, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_flock);
    char *before = slurp("/proc/self/fdinfo/3", NULL);
    CHECK(strstr(before, "FLOCK  ADVISORY  WRITE"));

    checkpoint_here(1);

    CHECK(strcmp(slurp("/proc/self/fdinfo/3", NULL), before) == 0);
    wait_blocked(waiter, SYS_flock);
    CHECK(!others_get("alone", LOCK_SH) && !others_get(".", LOCK_SH) && others_get("free", LOCK_EX));
    CHECK(others_get("shared", LOCK_SH) && !others_get("shared", LOCK_EX));
    CHECK(others_get(memory_path, LOCK_SH) && !others_get(memory_path, LOCK_EX));
    /* The shared locks belong to two descriptions, the exclusive lock to both duplicates of one. */
    CHECK(flock(second, LOCK_UN) == 0 && !others_get("shared", LOCK_EX));
    CHECK(close(shared) == 0 && others_get("shared", LOCK_EX));
    CHECK(close(also) == 0 && !others_get("alone", LOCK_SH));
    wait_blocked(waiter, SYS_flock);
    CHECK(flock(alone, LOCK_UN) == 0);
    join(thread);
    CHECK(!others_get("alone", LOCK_SH) && close(waits) == 0 && others_get("alone", LOCK_EX));
    return done();
}

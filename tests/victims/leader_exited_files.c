/*
 * The main thread has ended. The process keeps its record locks, the locks of its descriptions (one
 * of a mapped file), and the signal owner of a pipe.
 */
#include "victim.h"
#include <sys/file.h>

static int open_file(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    return fd;
}

/* The lock that another description conflicts with in this file. */
static struct flock met(const char *name)
{
    struct flock lock = {.l_type = F_WRLCK};
    CHECK(fcntl(open_file(name), F_OFD_GETLK, &lock) == 0);
    return lock;
}

static void *body(void *arg)
{
    await_leader_end();
    struct flock mine = {.l_type = F_WRLCK, .l_start = 5, .l_len = 10}, of_description = mine;
    int whole = open_file("whole"), ends[2];
    CHECK(fcntl(open_file("posix"), F_SETLK, &mine) == 0 && fcntl(open_file("ofd"), F_OFD_SETLK, &of_description) == 0);
    CHECK(flock(whole, LOCK_EX) == 0 && ftruncate(whole, 4096) == 0);
    CHECK(mmap(NULL, 4096, RW, MAP_SHARED, whole, 0) != MAP_FAILED);
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETOWN, getpid()) == 0 && fcntl(ends[0], F_SETFL, O_ASYNC) == 0);

    checkpoint_here(1);

    struct flock posix = met("posix"), ofd = met("ofd");
    CHECK(posix.l_type == F_WRLCK && posix.l_start == 5 && posix.l_len == 10 && posix.l_pid == getpid());
    CHECK(ofd.l_type == F_WRLCK && ofd.l_start == 5 && ofd.l_len == 10 && ofd.l_pid == -1);
    CHECK(flock(open_file("whole"), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK);
    CHECK(flock(whole, LOCK_UN) == 0 && flock(open_file("whole"), LOCK_SH | LOCK_NB) == 0);
    CHECK(fcntl(ends[0], F_GETOWN) == getpid() && fcntl(ends[0], F_GETFL) & O_ASYNC);
    exit(done());
}

int main(void)
{
    start(body, NULL);
    pthread_exit(NULL);
}

/*
 * Record locks of a process (F_SETLK): ranges, the last byte, the end of the file, read and write.
 * Closing any descriptor of the file drops them.
 */
#include "victim.h"
#include <sys/wait.h>

static const struct flock locks[] = {
    {.l_type = F_WRLCK, .l_start = 1, .l_len = 10},
    {.l_type = F_RDLCK, .l_start = 11, .l_len = 1},
    {.l_type = F_RDLCK, .l_start = 100, .l_len = INT64_MAX - 1100},
    {.l_type = F_WRLCK, .l_start = INT64_MAX - 100, .l_len = 50},
    {.l_type = F_WRLCK, .l_start = INT64_MAX, .l_len = 1},
};
enum { COUNT = sizeof locks / sizeof *locks };

/* The lock that blocks a write lock of another process in this range. F_UNLCK if there is none. */
static struct flock met(int fd, off_t start, off_t len)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = start, .l_len = len};
    int pair[2], status;
    CHECK(pipe(pair) == 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fcntl(fd, F_GETLK, &lock) != 0 || write(pair[1], &lock, sizeof lock) != sizeof lock);
    CHECK(read(pair[0], &lock, sizeof lock) == sizeof lock && waitpid(pid, &status, 0) == pid && status == 0);
    close(pair[0]), close(pair[1]);
    return lock;
}

int main(void)
{
    int fd = open("data", O_RDWR | O_CREAT, 0600), all = open("all", O_RDWR | O_CREAT, 0600);
    int shares = dup(fd), second = open("data", O_RDONLY), third = open("data", O_RDWR);
    struct flock whole = {.l_type = F_WRLCK}, more = {.l_type = F_RDLCK, .l_start = 30, .l_len = 5};
    CHECK(fd == 3 && shares > 0 && second > 0 && third > 0 && fcntl(all, F_SETLK, &whole) == 0);
    for (int n = 0; n < COUNT; n++)
        CHECK(fcntl(n % 2 ? shares : fd, F_SETLK, &locks[n]) == 0);
    CHECK(fcntl(second, F_SETLK, &more) == 0);

    checkpoint_here(1);

    struct flock lock;
    for (int n = 0; n < COUNT; n++) {
        lock = met(fd, locks[n].l_start, 1);
        CHECK(lock.l_type == locks[n].l_type && lock.l_start == locks[n].l_start && lock.l_pid == getpid());
        CHECK_EQ(lock.l_len, locks[n].l_start == INT64_MAX ? 0 : locks[n].l_len);
    }
    lock = met(fd, 25, 20);
    CHECK(lock.l_type == F_RDLCK && lock.l_start == 30 && lock.l_len == 5);
    CHECK(met(fd, 0, 1).l_type == F_UNLCK && met(fd, 12, 18).l_type == F_UNLCK && met(fd, 35, 65).l_type == F_UNLCK);
    lock = met(all, 5, 5);
    CHECK(lock.l_type == F_WRLCK && lock.l_start == 0 && lock.l_len == 0);
    /* The locks belong to this process, so it can change and split them. */
    lock = (struct flock){.l_type = F_UNLCK, .l_start = 3, .l_len = 2};
    CHECK(fcntl(fd, F_SETLK, &lock) == 0 && met(fd, 3, 2).l_type == F_UNLCK && met(fd, 5, 1).l_start == 5);
    CHECK(close(third) == 0);
    CHECK(met(fd, 0, 0).l_type == F_UNLCK && met(all, 0, 0).l_type == F_WRLCK);
    return done();
}

/*
 * Record locks of a description (F_OFD_SETLK), shared by its duplicates. Threads wait for such a
 * lock in F_OFD_SETLKW and in F_SETLKW.
 */
#include "victim.h"

static int fd, other, mine;
static volatile pid_t waiting[2];

static void *waits(void *how)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = how ? 200 : 100, .l_len = 10};
    waiting[how != NULL] = gettid();
    CHECK(fcntl(how ? mine : other, how ? F_SETLKW : F_OFD_SETLKW, &lock) == 0);
    return NULL;
}

/* The lock that another description conflicts with at `start`. */
static struct flock met(off_t start)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = start, .l_len = 1};
    CHECK(fcntl(other, F_OFD_GETLK, &lock) == 0);
    return lock;
}

int main(void)
{
    fd = open("data", O_RDWR | O_CREAT, 0600), other = open("data", O_RDWR), mine = open("data", O_RDWR);
    int shares = dup(fd);
    static const struct flock locks[] = {
        {.l_type = F_WRLCK, .l_start = 100, .l_len = 10}, {.l_type = F_WRLCK, .l_start = 200, .l_len = 1},
        {.l_type = F_RDLCK, .l_start = 1000, .l_len = 0}};
    for (int n = 0; n < 3; n++)
        CHECK(fcntl(fd, F_OFD_SETLK, &locks[n]) == 0);
    pthread_t threads[2] = {start(waits, NULL), start(waits, &mine)};
    for (int n = 0; n < 2; n++) {
        while (!waiting[n])
            pause_briefly();
        wait_blocked(waiting[n], SYS_fcntl);
    }

    checkpoint_here(1);

    wait_blocked(waiting[0], SYS_fcntl), wait_blocked(waiting[1], SYS_fcntl);
    for (int n = 0; n < 3; n++) {
        struct flock lock = met(locks[n].l_start);
        CHECK(lock.l_type == locks[n].l_type && lock.l_start == locks[n].l_start && lock.l_len == locks[n].l_len);
        CHECK_EQ(lock.l_pid, -1);
    }
    CHECK(met(110).l_type == F_UNLCK && met(999).l_type == F_UNLCK);
    CHECK(close(fd) == 0 && met(100).l_type == F_WRLCK);
    wait_blocked(waiting[0], SYS_fcntl), wait_blocked(waiting[1], SYS_fcntl);
    CHECK(close(shares) == 0);
    join(threads[0]), join(threads[1]);
    CHECK(met(1000).l_type == F_UNLCK && met(205).l_type == F_WRLCK && met(205).l_pid == getpid());
    return done();
}

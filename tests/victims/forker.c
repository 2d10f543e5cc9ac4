/*
 * forker MOST [bomb]: forks as fast as it can, with at most MOST processes alive. Each child ends
 * at once, or forks one more child first. With "bomb", each child also forks as fast as it can for
 * some time, and all children stay in the tree. The file "count" holds the number of turns of the
 * first process. Forking begins when "go.1" appears and ends when "go.2" appears.
 */
#include "victim.h"
#include <sys/wait.h>

static volatile long *alive;
static long most;
static pid_t harness;

static pid_t try_fork(void)
{
    if (__sync_add_and_fetch(alive, 1) <= most) {
        pid_t pid = fork();
        if (pid >= 0)
            return pid;
    }
    __sync_sub_and_fetch(alive, 1);
    return -1;
}

static void end(void)
{
    __sync_sub_and_fetch(alive, 1);
    _exit(0);
}

/* Bounded: others may end as fast as they are reaped, and the first process has to count. */
static void reap(void)
{
    for (int n = 0; n < 200 && waitpid(-1, NULL, WNOHANG) > 0; n++)
        ;
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    int bomb = argc > 2;
    harness = getppid();
    most = atol(argv[1]);
    alive = mmap(NULL, 4096, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(alive != MAP_FAILED && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    int fd = open("count", O_RDWR | O_CREAT | O_TRUNC, 0644), first = 1;
    char text[32];
    checkpoint_here(1);
    /* If the test is killed, nothing else would end a bomb. */
    for (long count = 0; access("go.2", F_OK) != 0 && kill(harness, 0) == 0; count++) {
        reap();
        if (first) {
            snprintf(text, sizeof text, "%15ld", count);
            CHECK(pwrite(fd, text, 15, 0) == 15);
        } else if (count > 50) {
            end();
        }
        if (try_fork() != 0)
            continue;
        if (bomb) {
            first = 0;
            count = 0;
        } else {
            if (count % 2)
                try_fork();
            end();
        }
    }
    if (!first)
        end();
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    return done();
}

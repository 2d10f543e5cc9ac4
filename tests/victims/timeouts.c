/*
 * timeouts: until "go.1" appears, threads sleep in calls with a relative timeout, again and again.
 * No call may end early, and none with EINTR.
 */
#include "victim.h"
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>

#define SPAN 0.03
static volatile int released;
static const struct timespec span = {0, 30000000};

static void lasted(double since)
{
    CHECK(now() - since >= SPAN - 0.0001);
}


static void *sleeps(void *arg)
{
    while (!released) {
        double since = now();
        CHECK_EQ(nanosleep(&span, NULL), 0);
        lasted(since);
    }
    return arg;
}

static void *waits(void *arg)
{
    static int word;
    while (!released) {
        double since = now();
        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &span, NULL, 0) == -1 && errno == ETIMEDOUT);
        lasted(since);
    }
    return arg;
}

int main(void)
{
    pthread_t threads[] = {start(sleeps, NULL), start(waits, NULL)};
    dprintf(1, "ready 1\n");
    while (access("go.1", F_OK) != 0) {
        double since = now();
        CHECK_EQ(poll(NULL, 0, 30), 0);
        lasted(since);
    }
    released = 1;
    join(threads[0]);
    join(threads[1]);
    return done();
}

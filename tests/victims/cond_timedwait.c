/*
 * Two waiters with a timeout. One is signalled after the checkpoint. The other times out, and not
 * early.
 */
#include "victim.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t signalled = PTHREAD_COND_INITIALIZER, forgotten = PTHREAD_COND_INITIALIZER;
static volatile pid_t tids[2];

static long wait_on(pthread_cond_t *cond, int seconds, volatile pid_t *tid)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    pthread_mutex_lock(&lock);
    *tid = gettid();
    int result = pthread_cond_clockwait(cond, &lock, CLOCK_MONOTONIC, &end);
    pthread_mutex_unlock(&lock);
    if (result == ETIMEDOUT)
        CHECK(now() >= end.tv_sec + end.tv_nsec / 1e9);
    return result;
}

static void *first(void *arg)
{
    return (void *)wait_on(&signalled, 3600, &tids[0]);
}

static void *second(void *arg)
{
    return (void *)wait_on(&forgotten, 2, &tids[1]);
}

int main(void)
{
    pthread_t one = start(first, NULL), two = start(second, NULL);
    while (!tids[0] || !tids[1])
        sched_yield();
    wait_blocked(tids[0], SYS_futex);
    wait_blocked(tids[1], SYS_futex);
    checkpoint_here(1);
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&signalled);
    pthread_mutex_unlock(&lock);
    CHECK_EQ(join(one), 0);
    CHECK_EQ(join(two), ETIMEDOUT);
    return done();
}

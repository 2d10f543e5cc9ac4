/*
 * A held mutex that records its owner by thread id stays held, with another thread blocked on it.
 */
#include "victim.h"

static pthread_mutex_t lock;
static volatile int got;
static volatile pid_t waiter;

static void *body(void *arg)
{
    waiter = gettid();
    CHECK(pthread_mutex_lock(&lock) == 0);
    got = 1;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    return arg;
}

int main(void)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    CHECK(pthread_mutex_init(&lock, &attr) == 0 && pthread_mutex_lock(&lock) == 0);
    pthread_t thread = start(body, NULL);
    while (!waiter)
        sched_yield();
    wait_blocked(waiter, SYS_futex);
    checkpoint_here(1);
    CHECK(!got);
    CHECK_EQ(pthread_mutex_lock(&lock), EDEADLK);
    CHECK_EQ(pthread_mutex_unlock(&lock), 0);
    join(thread);
    CHECK(got);
    return done();
}

/* Eight threads keep their thread-local variables, their ids and their pthread_t. */
#include "victim.h"

static __thread long mine = -1;
static volatile int ready, released;

static void *body(void *arg)
{
    pid_t tid = gettid();
    pthread_t self = pthread_self();
    mine = (long)arg;
    errno = 100 + mine;
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!released)
        sched_yield();
    CHECK_EQ(mine, arg);
    CHECK_EQ(errno, 100 + mine);
    CHECK_EQ(gettid(), tid);
    CHECK_EQ(pthread_self(), self);
    return &mine;
}

int main(void)
{
    pthread_t threads[8];
    pid_t tid = gettid();
    mine = 77;
    for (long n = 0; n < 8; n++)
        threads[n] = start(body, (void *)n);
    while (ready < 8)
        sched_yield();
    checkpoint_here(1);
    released = 1;
    for (int n = 0; n < 8; n++)
        CHECK(join(threads[n]) != &mine);
    CHECK_EQ(mine, 77);
    CHECK_EQ(gettid(), tid);
    return done();
}

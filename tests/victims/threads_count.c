/*
 * Eight threads increment one counter under a mutex and another atomically, all the time. No
 * increment is lost or repeated.
 */
#include "victim.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int released;
static long locked, atomic;

static void *body(void *arg)
{
    long turns = 0;
    while (!released) {
        pthread_mutex_lock(&lock);
        locked++;
        pthread_mutex_unlock(&lock);
        __atomic_add_fetch(&atomic, 1, __ATOMIC_RELAXED);
        turns++;
    }
    return (void *)turns;
}

int main(void)
{
    pthread_t threads[8];
    long turns = 0;
    for (int n = 0; n < 8; n++)
        threads[n] = start(body, NULL);
    for (int n = 1; n <= 2; n++) {
        checkpoint_here(n);
        long before = __atomic_load_n(&atomic, __ATOMIC_RELAXED);
        while (__atomic_load_n(&atomic, __ATOMIC_RELAXED) < before + 1000)
            sched_yield();
    }
    released = 1;
    for (int n = 0; n < 8; n++)
        turns += (long)join(threads[n]);
    CHECK_EQ(turns, locked);
    CHECK_EQ(turns, atomic);
    return done();
}

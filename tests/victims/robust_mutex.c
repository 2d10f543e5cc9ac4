/*
 * A thread ends after the checkpoint while it holds a robust mutex. The next owner gets EOWNERDEAD,
 * because the kernel still has the thread's robust list.
 */
#include "victim.h"

static pthread_mutex_t lock;
static volatile int held, released;

static void *body(void *arg)
{
    CHECK(pthread_mutex_lock(&lock) == 0);
    held = 1;
    while (!released)
        pause_briefly();
    return arg; /* without unlocking */
}

int main(void)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&lock, &attr) == 0);
    pthread_t thread = start(body, NULL);
    while (!held)
        sched_yield();
    void *head = NULL, *again = NULL;
    size_t len;
    CHECK(syscall(SYS_get_robust_list, 0, &head, &len) == 0 && head);
    checkpoint_here(1);
    CHECK(syscall(SYS_get_robust_list, 0, &again, &len) == 0);
    CHECK_EQ(head, again);
    CHECK_EQ(pthread_mutex_trylock(&lock), EBUSY);
    released = 1;
    join(thread);
    CHECK_EQ(pthread_mutex_lock(&lock), EOWNERDEAD);
    CHECK_EQ(pthread_mutex_consistent(&lock), 0);
    CHECK_EQ(pthread_mutex_unlock(&lock), 0);
    return done();
}

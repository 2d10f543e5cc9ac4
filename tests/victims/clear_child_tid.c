/*
 * pthread_join of a thread that was checkpointed returns. The kernel still clears the tid word of
 * the thread and wakes the waiter when the thread ends.
 */
#include "victim.h"

static volatile int released;

static void *body(void *arg)
{
    while (!released)
        pause_briefly();
    return (char *)arg + 1;
}

static void *joiner(void *thread)
{
    return join((pthread_t)thread);
}

int main(void)
{
    /* One join starts before the checkpoint, the other after it. */
    pthread_t early = start(body, (void *)10), late = start(body, (void *)20);
    pthread_t blocked = start(joiner, (void *)early);
    pause_briefly();
    checkpoint_here(1);
    released = 1;
    CHECK_EQ(join(blocked), 11);
    CHECK_EQ(join(late), 21);
    return done();
}

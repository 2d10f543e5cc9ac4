/* The process and each of its threads keep the names that prctl(PR_SET_NAME) set. */
#include "victim.h"

static volatile int ready, released;

static void *body(void *arg)
{
    char name[16], seen[16];
    snprintf(name, sizeof name, "worker %ld (\x80)", (long)arg);
    CHECK(prctl(PR_SET_NAME, name) == 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!released)
        sched_yield();
    CHECK(prctl(PR_GET_NAME, seen) == 0 && strcmp(name, seen) == 0);
    return NULL;
}

int main(void)
{
    char seen[16];
    CHECK(prctl(PR_SET_NAME, "a) name (") == 0);
    pthread_t one = start(body, (void *)1), two = start(body, (void *)2);
    while (ready < 2)
        sched_yield();
    checkpoint_here(1);
    released = 1;
    join(one);
    join(two);
    CHECK(prctl(PR_GET_NAME, seen) == 0 && strcmp(seen, "a) name (") == 0);
    CHECK(strcmp(proc_line("/proc/self/comm", ""), "a) name (") == 0);
    return done();
}

/* Children made by different threads of the parent. Parent and children all have threads. */
#include "tree.h"

enum { THREADS = 3 };

static __thread int local;
static volatile pid_t tids[PLACES];
static pid_t pids[THREADS];

/* A thread of a child or of the parent keeps its thread id and its thread-local value. */
static void *thread_body(void *arg)
{
    int n = (int)(long)arg;
    local = 100 + n;
    tids[n] = gettid();
    await_turn(1);
    CHECK(local == 100 + n && tids[n] == gettid());
    return arg;
}

static void child(int place)
{
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        threads[n] = start(thread_body, (void *)(place * 10 + n));
    for (int n = 0; n < THREADS; n++)
        while (!tids[place * 10 + n])
            sched_yield();
    over_checkpoint(place);
    for (long n = 0; n < THREADS; n++)
        CHECK_EQ((long)join(threads[n]), place * 10 + n);
    _exit(place);
}

static void *forking_body(void *arg)
{
    long n = (long)arg;
    pids[n] = spawn(child, n + 1);
    return thread_body(arg);
}

int main(void)
{
    pthread_t threads[THREADS];
    board_make();
    for (long n = 0; n < THREADS; n++)
        threads[n] = start(forking_body, (void *)n);
    checkpoint_tree(THREADS);
    for (long n = 0; n < THREADS; n++)
        CHECK_EQ((long)join(threads[n]), n);
    for (int n = 0; n < THREADS; n++)
        reap(pids[n], W_EXITCODE(n + 1, 0));
    no_children_left();
    return done();
}

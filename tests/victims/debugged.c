/*
 * A process for debuggers: threads asleep in different calls, in functions with known names, and
 * memory of every kind.
 */
#include "victim.h"
#include <poll.h>
#include <sys/file.h>

char changed[64] = "first words";
const char constant[] = "never changed";
char *heap, *sparse, *hidden, *shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static __attribute__((noinline)) void *waits_for_condition(void *arg)
{
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&never, &mutex);
    return arg;
}

static __attribute__((noinline)) void *sleeps_long(void *arg)
{
    struct timespec long_time = {100000, 0};
    nanosleep(&long_time, NULL);
    return arg;
}

static __attribute__((noinline)) void *polls_for_ever(void *arg)
{
    poll(NULL, 0, -1);
    return arg;
}

static __attribute__((noinline)) int deeper(int left)
{
    volatile int local = left;
    if (left > 0)
        return deeper(left - 1) + local;
    pause();
    return local;
}

static __attribute__((noinline)) void *sits_deep(void *arg)
{
    deeper(5);
    return arg;
}

static __attribute__((noinline)) void main_waits(void)
{
    for (;;)
        pause();
}

int main(void)
{
    strcpy(changed, "second words");
    heap = strdup("on the heap");
    sparse = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(sparse != MAP_FAILED);
    strcpy(sparse + (40 << 20), "far inside");
    hidden = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hidden != MAP_FAILED && madvise(hidden, 4096, MADV_DONTDUMP) == 0);
    strcpy(hidden, "not for core files");
    shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    strcpy(shared + 4096, "shared words");
    start(waits_for_condition, NULL);
    start(sleeps_long, NULL);
    start(polls_for_ever, NULL);
    start(sits_deep, NULL);
    usleep(100000);
    dprintf(1, "ready 1\n");
    main_waits();
    return done();
}

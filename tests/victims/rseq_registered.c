/* The rseq area of each thread is still registered: the kernel keeps updating its cpu number. */
#include "victim.h"
#include <sys/rseq.h>

static volatile int ready, released;

static struct rseq *area(void)
{
    return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void look(void)
{
    for (int cpu = 0; cpu < 2; cpu++) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(cpu, &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus) == 0)
            CHECK_EQ(*(volatile uint32_t *)&area()->cpu_id, cpu);
    }
    /*
     * A second, identical registration fails with EBUSY. It would succeed if nothing were
     * registered.
     */
    CHECK(syscall(SYS_rseq, area(), 32, 0, RSEQ_SIG) == -1);
    CHECK_EQ(errno, EBUSY);
}

static void *body(void *arg)
{
    look();
    ready = 1;
    while (!released)
        pause_briefly();
    look();
    return arg;
}

int main(void)
{
    CHECK(__rseq_size > 0);
    look();
    pthread_t thread = start(body, NULL);
    while (!ready)
        sched_yield();
    checkpoint_here(1);
    released = 1;
    look();
    join(thread);
    return done();
}

/*
 * Each thread keeps its own signal mask, including real-time signals and the two signals that the C
 * library reserves.
 */
#include "victim.h"

static volatile int ready, released;

static uint64_t get(void)
{
    uint64_t mask = 0;
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, 8) == 0);
    return mask;
}

static void set(uint64_t mask)
{
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8) == 0);
}

static void *body(void *arg)
{
    set((uint64_t)arg);
    uint64_t before = get();
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!released)
        sched_yield();
    CHECK_EQ(get(), before);
    return NULL;
}

int main(void)
{
    pthread_t one = start(body, (void *)0xfffffffffffffffful), two = start(body, (void *)0x8000000180000201ul);
    set(0x0000000a00000014ul);
    uint64_t before = get();
    while (ready < 2)
        sched_yield();
    checkpoint_here(1);
    released = 1;
    CHECK_EQ(get(), before);
    join(one);
    join(two);
    return done();
}

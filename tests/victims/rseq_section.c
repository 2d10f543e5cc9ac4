/*
 * Threads continuously increment per-cpu counters in restartable sequences. An interrupted sequence
 * is aborted and never completed.
 */
#include "victim.h"
#include <sys/rseq.h>

static struct { volatile long count; char pad[120]; } slots[1024];
static volatile int released;

static void increment(void)
{
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    /*
     * The section reads the counter, spins for a while, and stores the counter plus one. Its abort
     * handler, after the signature, starts the section again.
     */
    __asm__ volatile(
        ".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
        "9: .long 0, 0\n .quad 1f, (2f - 1f), 4f\n .popsection\n"
        "3: leaq 9b(%%rip), %%rax\n movq %%rax, 8(%[area])\n"
        "1: movl 4(%[area]), %%eax\n shlq $7, %%rax\n addq %[slots], %%rax\n"
        "   movq (%%rax), %%rdx\n movl $200, %%ecx\n"
        "5: decl %%ecx\n jnz 5b\n"
        "   incq %%rdx\n movq %%rdx, (%%rax)\n"
        "2: jmp 6f\n"
        "   .byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
        "4: jmp 3b\n"
        "6:\n"
        : : [area] "r"(area), [slots] "r"(slots) : "rax", "rcx", "rdx", "memory", "cc");
}

static void *body(void *arg)
{
    long turns = 0;
    for (; !released || turns < 100000; turns++)
        increment();
    return (void *)turns;
}

int main(void)
{
    pthread_t threads[4];
    long turns = 0, total = 0;
    for (int n = 0; n < 4; n++)
        threads[n] = start(body, NULL);
    checkpoint_here(1);
    checkpoint_here(2);
    released = 1;
    for (int n = 0; n < 4; n++)
        turns += (long)join(threads[n]);
    for (int n = 0; n < 1024; n++)
        total += slots[n].count;
    CHECK_EQ(turns, total);
    return done();
}

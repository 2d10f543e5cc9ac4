/* All general registers and the flags keep their values in a loop that touches only rcx. */
#include "victim.h"

volatile uint32_t released;
uint64_t seen[16];
void hold(void);
/*
 * Loads N * 0x0101010101010101 into register N, sets carry and direction, and spins. mov and jecxz
 * do not change the flags.
 */
__asm__(".text\n"
        "hold:\n"
        " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " movabs $0x0101010101010101, %rax\n movabs $0x0202020202020202, %rbx\n movabs $0x0303030303030303, %rdx\n"
        " movabs $0x0404040404040404, %rsi\n movabs $0x0505050505050505, %rdi\n movabs $0x0606060606060606, %rbp\n"
        " movabs $0x0808080808080808, %r8\n movabs $0x0909090909090909, %r9\n movabs $0x0a0a0a0a0a0a0a0a, %r10\n"
        " movabs $0x0b0b0b0b0b0b0b0b, %r11\n movabs $0x0c0c0c0c0c0c0c0c, %r12\n movabs $0x0d0d0d0d0d0d0d0d, %r13\n"
        " movabs $0x0e0e0e0e0e0e0e0e, %r14\n movabs $0x0f0f0f0f0f0f0f0f, %r15\n"
        " cmp %rax, %rax\n stc\n std\n"
        "1: mov released(%rip), %ecx\n jecxz 1b\n"
        " pushfq\n cld\n"
        " lea seen(%rip), %rcx\n"
        " mov %rax, 8(%rcx)\n mov %rbx, 16(%rcx)\n mov %rdx, 24(%rcx)\n mov %rsi, 32(%rcx)\n mov %rdi, 40(%rcx)\n"
        " mov %rbp, 48(%rcx)\n mov %r8, 64(%rcx)\n mov %r9, 72(%rcx)\n mov %r10, 80(%rcx)\n mov %r11, 88(%rcx)\n"
        " mov %r12, 96(%rcx)\n mov %r13, 104(%rcx)\n mov %r14, 112(%rcx)\n mov %r15, 120(%rcx)\n"
        " popq (%rcx)\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static void *release(void *arg)
{
    pause_briefly();
    checkpoint_here(1);
    released = 1;
    return arg;
}

int main(void)
{
    pthread_t thread = start(release, NULL);
    hold();
    join(thread);
    for (int n = 1; n < 16; n++)
        if (n != 7)
            CHECK_EQ(seen[n], n * 0x0101010101010101ul);
    CHECK_EQ(seen[0] & 0xcd5, 0x445); /* DF, ZF, PF and CF are set; OF, SF and AF are not */
    return done();
}

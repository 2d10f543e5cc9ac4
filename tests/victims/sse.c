/* The sixteen SSE registers and MXCSR keep their values. */
#include "victim.h"

volatile uint32_t released;
unsigned char in[16][16] __attribute__((aligned(64))), out[16][16] __attribute__((aligned(64)));
uint32_t mxcsr = 0x3f80, mxcsr_seen; /* round down; all exceptions masked */
void hold(void);
__asm__(".text\nhold:\n ldmxcsr mxcsr(%rip)\n lea in(%rip), %rax\n"
        " .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movaps 16*\\n(%rax), %xmm\\n\n .endr\n"
        "1: mov released(%rip), %ecx\n jecxz 1b\n"
        " lea out(%rip), %rax\n"
        " .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movaps %xmm\\n, 16*\\n(%rax)\n .endr\n"
        " stmxcsr mxcsr_seen(%rip)\n ret\n");

static void *release(void *arg)
{
    pause_briefly();
    checkpoint_here(1);
    released = 1;
    return arg;
}

int main(void)
{
    for (size_t n = 0; n < sizeof in; n++)
        ((unsigned char *)in)[n] = n * 7 + n / 256 + 1;
    released = !__builtin_cpu_supports("sse2");
    if (released) { /* this machine has no SSE: only run the protocol */
        dprintf(1, "skipped: no sse2\n");
        checkpoint_here(1);
        return done();
    }
    pthread_t thread = start(release, NULL);
    hold();
    join(thread);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK_EQ(mxcsr & ~0x3f, mxcsr_seen & ~0x3f);
    return done();
}

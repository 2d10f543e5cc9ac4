/* The eight AVX-512 mask registers keep their values. */
#include "victim.h"

volatile uint32_t released;
uint64_t in[8], out[8];
void hold(void);
__asm__(".text\nhold:\n lea in(%rip), %rax\n .irp n,0,1,2,3,4,5,6,7\n kmovq 8*\\n(%rax), %k\\n\n .endr\n"
        "1: mov released(%rip), %ecx\n jecxz 1b\n"
        " lea out(%rip), %rax\n .irp n,0,1,2,3,4,5,6,7\n kmovq %k\\n, 8*\\n(%rax)\n .endr\n ret\n");

static void *release(void *arg)
{
    pause_briefly();
    checkpoint_here(1);
    released = 1;
    return arg;
}

int main(void)
{
    if (!__builtin_cpu_supports("avx512bw")) {
        dprintf(1, "skipped: no avx512bw\n");
        checkpoint_here(1);
        return done();
    }
    for (int n = 0; n < 8; n++)
        in[n] = 0x0123456789abcdeful * (n + 1);
    pthread_t thread = start(release, NULL);
    hold();
    join(thread);
    for (int n = 0; n < 8; n++)
        CHECK_EQ(in[n], out[n]);
    return done();
}

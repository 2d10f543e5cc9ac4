/* The eight x87 registers, their order and the control word keep their values. */
#include "victim.h"

volatile uint32_t released;
long double in[8], out[8];
uint16_t control = 0x0a7f, control_seen; /* round up, 53 bits, all exceptions masked */
void hold(void);
__asm__(".text\nhold:\n fninit\n fldcw control(%rip)\n lea in(%rip), %rax\n"
        " .irp n,0,1,2,3,4,5,6,7\n fldt 16*\\n(%rax)\n .endr\n"
        "1: mov released(%rip), %ecx\n jecxz 1b\n"
        " fnstcw control_seen(%rip)\n lea out(%rip), %rax\n"
        " .irp n,7,6,5,4,3,2,1,0\n fstpt 16*\\n(%rax)\n .endr\n fninit\n ret\n");

static void *release(void *arg)
{
    pause_briefly();
    checkpoint_here(1);
    released = 1;
    return arg;
}

int main(void)
{
    for (int n = 0; n < 8; n++)
        in[n] = 3.14159265358979323846L * (n + 1);
    pthread_t thread = start(release, NULL);
    hold();
    join(thread);
    for (int n = 0; n < 8; n++)
        CHECK(in[n] == out[n]);
    CHECK_EQ(control, control_seen);
    return done();
}

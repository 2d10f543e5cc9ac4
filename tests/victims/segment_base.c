/* The gs base, set by arch_prctl(2), keeps its value, and so does the fs base that TLS uses. */
#include "victim.h"
#include <asm/prctl.h>

int main(void)
{
    static uint64_t area[2] = {0x1111, 0x2222};
    unsigned long fs, gs, again;
    CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, area) == 0 && syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0);
    checkpoint_here(1);
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && syscall(SYS_arch_prctl, ARCH_GET_FS, &again) == 0);
    CHECK_EQ(gs, area);
    CHECK_EQ(fs, again);
    uint64_t value;
    __asm__ volatile("movq %%gs:8, %0" : "=r"(value));
    CHECK_EQ(value, 0x2222);
    return done();
}

/* mlock2(MLOCK_ONFAULT) locks pages when touched. The restored memory is not fully present. */
#include "victim.h"

int main(void)
{
    unsigned char in_core = 1;
    char *at = map(1024 * 4096, RW), before[64];
    CHECK(mlock2(at, 1024 * 4096, MLOCK_ONFAULT) == 0);
    at[0] = 1;
    snprintf(before, sizeof before, "%s", proc_line("/proc/self/status", "VmLck:"));
    CHECK(mincore(at + 512 * 4096, 4096, &in_core) == 0 && !(in_core & 1));
    checkpoint_here(1);
    CHECK(strcmp(before, proc_line("/proc/self/status", "VmLck:")) == 0);
    CHECK(at[0] == 1 && mincore(at + 512 * 4096, 4096, &in_core) == 0 && !(in_core & 1));
    return done();
}

/* Memory locked with mlock(2) is still locked, in the same amount. */
#include "victim.h"

int main(void)
{
    char *at = map(16 * 4096, RW), before[64];
    CHECK(mlock(at, 8 * 4096) == 0);
    at[3 * 4096] = 3;
    snprintf(before, sizeof before, "%s", proc_line("/proc/self/status", "VmLck:"));
    checkpoint_here(1);
    CHECK(strcmp(before, proc_line("/proc/self/status", "VmLck:")) == 0);
    CHECK(at[3 * 4096] == 3 && munlock(at, 8 * 4096) == 0);
    return done();
}

/* All sixteen resource limits, soft and hard. */
#include "victim.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit before[16], after;
    for (int n = 0; n < 16; n++) {
        CHECK(getrlimit(n, &before[n]) == 0);
        if (n == RLIMIT_NOFILE || n == RLIMIT_STACK || n == RLIMIT_CORE || n == RLIMIT_MEMLOCK || n == RLIMIT_SIGPENDING) {
            before[n].rlim_max = before[n].rlim_max == RLIM_INFINITY ? 1ul << 40 : before[n].rlim_max - before[n].rlim_max / 8;
            before[n].rlim_cur = before[n].rlim_max / 2;
            CHECK(setrlimit(n, &before[n]) == 0);
        }
    }
    checkpoint_here(1);
    for (int n = 0; n < 16; n++) {
        CHECK(getrlimit(n, &after) == 0);
        CHECK_EQ(after.rlim_cur, before[n].rlim_cur);
        CHECK_EQ(after.rlim_max, before[n].rlim_max);
    }
    return done();
}

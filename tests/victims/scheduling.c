/*
 * Nice value, scheduling policy and affinity: SCHED_BATCH in the first round, SCHED_IDLE in the
 * second, SCHED_OTHER in the third.
 */
#include "victim.h"
#include <sys/resource.h>

int main(void)
{
    static const int policies[] = {SCHED_BATCH, SCHED_IDLE, SCHED_OTHER};
    struct sched_param zero = {0};
    cpu_set_t one, seen;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    for (int n = 0; n < 3; n++) {
        CHECK(sched_setscheduler(0, policies[n] | SCHED_RESET_ON_FORK, &zero) == 0 && setpriority(PRIO_PROCESS, 0, 5 + n) == 0);
        checkpoint_here(n + 1);
        CHECK_EQ(sched_getscheduler(0), policies[n] | SCHED_RESET_ON_FORK);
        CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5 + n);
        CHECK(sched_getaffinity(0, sizeof seen, &seen) == 0 && CPU_EQUAL(&one, &seen));
    }
    return done();
}

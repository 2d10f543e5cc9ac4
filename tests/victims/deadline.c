/*
 * SCHED_DEADLINE: runtime, deadline, period, and the flags for overruns, for reclaiming unused time
 * and for a reset on fork.
 */
#include "victim.h"

enum { RESET_ON_FORK = 1, RECLAIM = 2, DL_OVERRUN = 4, DEADLINE = 6 };

struct attr { /* struct sched_attr; some versions of libc define it too */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

int main(void)
{
    static const int flags[] = {RESET_ON_FORK | RECLAIM | DL_OVERRUN, RECLAIM, DL_OVERRUN};
    signal(SIGXCPU, SIG_IGN);
    for (int n = 0; n < 3; n++) {
        struct attr attr = {sizeof attr, DEADLINE, flags[n], 0, 0, 20000000, 90000000, 100000000}, seen;
        /* The kernel refuses SCHED_DEADLINE where cpusets divide the CPUs. */
        int has = syscall(SYS_sched_setattr, 0, &attr, 0) == 0;
        CHECK(has || errno == EPERM || errno == EBUSY);
        checkpoint_here(n + 1);
        CHECK(!has || syscall(SYS_sched_getattr, 0, &seen, sizeof seen, 0) == 0);
        CHECK(!has || (seen.policy == DEADLINE && seen.runtime == 20000000 && seen.deadline == 90000000));
        CHECK(!has || (seen.period == 100000000 && seen.flags == attr.flags));
    }
    return done();
}

/*
 * Settings of prctl(2) and personality(2): dumpable, parent-death signal, timer slack, subreaper,
 * THP, personality, memory merging (KSM), the policy for memory errors, IO flusher, and
 * speculation.
 */
#include "victim.h"
#include <sys/personality.h>

/* Since Linux 6.4. */
enum { SET_MERGE = 67, GET_MERGE = 68 };
enum { SET_FLUSHER = 57, GET_FLUSHER = 58, SPEC_PRCTL = 1, SPEC_DISABLE = 4 };

int main(void)
{
    int signal = 0, reaper = 0;
    CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGURG) == 0 && prctl(PR_SET_TIMERSLACK, 77777) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
    /* Some kernels are built without these. */
    int merges = prctl(SET_MERGE, 1, 0, 0, 0) == 0, has_mce = prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0;
    /* The first needs CAP_SYS_RESOURCE, the second a machine that leaves it to the thread. */
    int flushes = prctl(SET_FLUSHER, 1, 0, 0, 0) == 0;
    int control = prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0), speculates = control > 0 && control & SPEC_PRCTL;
    CHECK(!speculates || prctl(PR_SET_SPECULATION_CTRL, 0, SPEC_DISABLE, 0, 0) == 0);
    checkpoint_here(1);
    CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
    CHECK(prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGURG);
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 77777);
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 1);
    CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK(!merges || prctl(GET_MERGE, 0, 0, 0, 0) == 1);
    CHECK(!has_mce || prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY);
    CHECK(!flushes || prctl(GET_FLUSHER, 0, 0, 0, 0) == 1);
    CHECK(!speculates || prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0) == (SPEC_PRCTL | SPEC_DISABLE));
    return done();
}

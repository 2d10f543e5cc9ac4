/*
 * Real, effective, saved and filesystem ids, all different, and the supplementary groups in order.
 */
#include "victim.h"
#include <grp.h>
#include <sys/fsuid.h>

int main(void)
{
    gid_t groups[] = {65534, 4, 20, 1000, 27}, seen[16];
    uid_t ids[3];
    CHECK(setgroups(5, groups) == 0 && setresgid(1001, 1002, 1003) == 0);
    CHECK(prctl(PR_SET_KEEPCAPS, 0) == 0 && setresuid(1011, 1012, 1013) == 0);
    CHECK(getgroups(5, groups) == 5);
    setfsgid(1003); /* allowed, because it is one of its own ids */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    checkpoint_here(1);
    CHECK(getresuid(&ids[0], &ids[1], &ids[2]) == 0 && ids[0] == 1011 && ids[1] == 1012 && ids[2] == 1013);
    CHECK(getresgid(&ids[0], &ids[1], &ids[2]) == 0 && ids[0] == 1001 && ids[1] == 1002 && ids[2] == 1003);
    CHECK_EQ(setfsuid(-1), 1012);
    CHECK_EQ(setfsgid(-1), 1003);
    CHECK(getgroups(16, seen) == 5 && memcmp(groups, seen, sizeof groups) == 0);
    return done();
}

/*
 * What a process inherits from its maker is as before: personality, memory merging (KSM), the keys
 * of the session. A restore by a daemon that has others changes none of it.
 */
#include "victim.h"
#include <sys/personality.h>

enum { GET_MERGE = 68, KEYCTL_SEARCH = 10, SESSION_KEYRING = -3 };

int main(void)
{
    int before = personality(0xffffffff), merges = prctl(GET_MERGE, 0, 0, 0, 0);
    CHECK(syscall(SYS_keyctl, KEYCTL_SEARCH, SESSION_KEYRING, "user", "ckptfs-test", 0) < 0);
    checkpoint_here(1);
    CHECK_EQ(personality(0xffffffff), before);
    CHECK_EQ(prctl(GET_MERGE, 0, 0, 0, 0), merges);
    CHECK(syscall(SYS_keyctl, KEYCTL_SEARCH, SESSION_KEYRING, "user", "ckptfs-test", 0) < 0);
    return done();
}

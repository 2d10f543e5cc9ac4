/* Process group and session: this victim leads both. */
#include "victim.h"

int main(void)
{
    pid_t pid = getpid();
    CHECK(getsid(0) == pid && getpgrp() == pid);
    checkpoint_here(1);
    CHECK_EQ(getpid(), pid);
    CHECK_EQ(getsid(0), pid);
    CHECK_EQ(getpgrp(), pid);
    CHECK_EQ(gettid(), pid);
    return done();
}

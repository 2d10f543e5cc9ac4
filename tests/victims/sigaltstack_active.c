/*
 * The checkpoint is taken in a handler that runs on the alternate stack. In the second round the
 * stack is disarmed meanwhile (SS_AUTODISARM).
 */
#include "victim.h"

static volatile int round_no;

static void handler(int n)
{
    stack_t before, after;
    CHECK(sigaltstack(NULL, &before) == 0);
    checkpoint_here(round_no);
    CHECK(sigaltstack(NULL, &after) == 0);
    CHECK_EQ(before.ss_flags, after.ss_flags);
    CHECK_EQ(before.ss_flags & (SS_ONSTACK | SS_DISABLE), round_no == 1 ? SS_ONSTACK : SS_DISABLE);
    CHECK_EQ(before.ss_sp, after.ss_sp);
}

int main(void)
{
    stack_t seen;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (round_no = 1; round_no <= 2; round_no++) {
        stack_t set = {.ss_size = 65536, .ss_sp = map(65536, RW), .ss_flags = round_no == 2 ? 1 << 31 : 0};
        CHECK(sigaltstack(&set, NULL) == 0);
        raise(SIGUSR1);
        CHECK(sigaltstack(NULL, &seen) == 0);
        CHECK_EQ(seen.ss_sp, set.ss_sp);
        CHECK_EQ(seen.ss_flags, set.ss_flags);
    }
    return done();
}

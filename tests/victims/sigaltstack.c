/* The alternate signal stack is still set, and a handler runs on it. */
#include "victim.h"

static char *stack;
static volatile int on_it;

static void handler(int n)
{
    char here;
    on_it = &here >= stack && &here < stack + 65536;
}

int main(void)
{
    stack_t set = {.ss_size = 65536}, seen;
    set.ss_sp = stack = map(65536, RW);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    CHECK(sigaltstack(&set, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    checkpoint_here(1);
    CHECK(sigaltstack(NULL, &seen) == 0);
    CHECK_EQ(seen.ss_sp, stack);
    CHECK_EQ(seen.ss_size, 65536);
    CHECK_EQ(seen.ss_flags, 0);
    raise(SIGUSR1);
    CHECK(on_it);
    return done();
}

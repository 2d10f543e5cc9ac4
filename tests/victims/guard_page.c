/*
 * A guard page between two mappings, and read-only memory, still raise SIGSEGV at the right
 * address.
 */
#include "victim.h"
#include <setjmp.h>

static sigjmp_buf back;
static void *volatile fault;

static void handler(int n, siginfo_t *info, void *context)
{
    fault = info->si_addr;
    siglongjmp(back, 1);
}

static void must_fault(volatile char *at)
{
    fault = NULL;
    if (sigsetjmp(back, 1) == 0) {
        *at = 1;
        CHECK(!"the write went through");
    }
    CHECK(fault == at);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    char *at = map(4 * 4096, RW);
    memset(at, 1, 4 * 4096);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    CHECK(mprotect(at + 4096, 4096, PROT_NONE) == 0 && mprotect(at + 3 * 4096, 4096, PROT_READ) == 0);
    checkpoint_here(1);
    must_fault(at + 4096);
    must_fault(at + 8191);
    must_fault(at + 3 * 4096 + 5);
    CHECK(at[4095] == 1 && at[2 * 4096] == 1 && at[3 * 4096] == 1);
    return done();
}

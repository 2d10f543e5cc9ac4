/*
 * The disposition of all 64 signals stays as the kernel reports it: handler, flags, sa_mask and
 * restorer.
 */
#include "victim.h"

struct action { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; };
static struct action before[65], after[65];
static volatile int caught;

static void get(struct action *all)
{
    for (int n = 1; n <= 64; n++)
        CHECK(syscall(SYS_rt_sigaction, n, NULL, &all[n], 8) == 0);
}

static void on_signal(int n)
{
    caught = n;
}

static void on_info(int n, siginfo_t *info, void *context)
{
    caught = n + info->si_value.sival_int;
}

int main(void)
{
    static const int flags[] = {0, SA_RESTART, SA_NODEFER, SA_ONSTACK, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_RESTART | SA_ONSTACK};
    for (int n = 1; n <= 64; n++) {
        struct sigaction action = {.sa_flags = flags[n % 7]};
        if (n % 5 == 0)
            action.sa_handler = SIG_IGN;
        else if (n % 5 == 1)
            action.sa_handler = SIG_DFL;
        else if (n % 5 == 2)
            action.sa_flags |= SA_SIGINFO, action.sa_sigaction = on_info;
        else
            action.sa_handler = on_signal;
        sigaddset(&action.sa_mask, 1 + n % 64);
        sigaddset(&action.sa_mask, 1 + n * 7 % 64);
        if (n != SIGKILL && n != SIGSTOP && n != 32 && n != 33)
            CHECK(sigaction(n, &action, NULL) == 0);
    }
    get(before);
    checkpoint_here(1);
    get(after);
    for (int n = 1; n <= 64; n++)
        CHECK(memcmp(&before[n], &after[n], sizeof before[n]) == 0);
    raise(SIGALRM - 1); /* 13 % 5 == 3: on_signal */
    CHECK_EQ(caught, 13);
    /* 42 % 5 == 2: on_info */
    CHECK(sigqueue(getpid(), 42, (union sigval){.sival_int = 1000}) == 0);
    CHECK_EQ(caught, 1042);
    raise(40); /* ignored */
    CHECK_EQ(caught, 1042);
    return done();
}

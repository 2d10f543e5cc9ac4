/*
 * The checkpoint is taken inside a signal handler that interrupted a computation. The handler
 * returns to the computation and restores its signal mask.
 */
#include "victim.h"

static volatile int in_handler, finished;

static void handler(int n)
{
    sigset_t mask;
    if (in_handler++)
        return;
    checkpoint_here(1);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    CHECK(sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGHUP));
    raise(SIGUSR1); /* blocked until the handler returns */
    CHECK_EQ(in_handler, 1);
    finished = 1;
}

static void *sender(void *target)
{
    pause_briefly();
    pthread_kill((pthread_t)target, SIGUSR1);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler};
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t thread = start(sender, (void *)pthread_self());
    /* The sum is wrong if any register is wrong in any turn. */
    double sum = 0;
    uint64_t hash = 1, turns = 0;
    while (!finished || turns % 1000) {
        turns++;
        sum += 0.5;
        hash = hash * 6364136223846793005ul + 1442695040888963407ul;
    }
    uint64_t again = 1;
    for (uint64_t n = 0; n < turns; n++)
        again = again * 6364136223846793005ul + 1442695040888963407ul;
    CHECK(sum == turns * 0.5);
    CHECK_EQ(hash, again);
    CHECK_EQ(in_handler, 2);
    join(thread);
    return done();
}

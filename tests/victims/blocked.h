/*
 * A system call that blocks during the checkpoint. `call` runs in the main thread and in a second
 * thread. Both are blocked when the checkpoint is taken. Afterwards both calls return as if there
 * had been no checkpoint.
 */
#include "victim.h"

#define ASKED 2.0

static volatile pid_t callers[2];

/*
 * The call took at least the time that was asked for, and at most two minutes more. The margin
 * covers the time between the end of the process and its restore.
 */
static inline void check_took(double begin, double asked)
{
    CHECK(now() - begin >= asked - 0.001);
    CHECK(now() - begin < asked + 120);
}

/* A handler that ends a call with EINTR and does nothing else. */
static inline void ends_calls(int signal)
{
}

static void *caller_body(void *call)
{
    callers[1] = gettid();
    ((void (*)(void))call)();
    return NULL;
}

struct watch { long number; int wake; };

/*
 * Prints "ready" when both callers block. Afterwards, if `wake` is set, sends both callers this
 * signal: it ends a call that would otherwise never return.
 */
static void *watcher_body(void *arg)
{
    struct watch *watch = arg;
    for (int n = 0; n < 2; n++)
        wait_blocked(callers[n], watch->number);
    checkpoint_here(1);
    for (int n = 0; n < 2 && watch->wake; n++)
        CHECK(syscall(SYS_tgkill, getpid(), callers[n], watch->wake) == 0);
    return NULL;
}

/*
 * Runs `call`, which must block in system call `number`, in two threads. `wake` is the signal that
 * ends the call, or 0 if it ends without one.
 */
static inline int blocked_in(long number, int wake, void (*call)(void))
{
    struct watch watch = {number, wake};
    struct sigaction action = {.sa_handler = ends_calls};
    if (wake)
        CHECK(sigaction(wake, &action, NULL) == 0);
    callers[0] = gettid();
    pthread_t other = start(caller_body, (void *)call);
    while (!callers[1])
        sched_yield();
    pthread_t watcher = start(watcher_body, &watch);
    call();
    join(other);
    join(watcher);
    return done();
}

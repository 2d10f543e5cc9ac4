/* futex(2) FUTEX_WAIT without a timeout: a wake after the checkpoint reaches the waiters. */
#include "blocked.h"
#include <linux/futex.h>

static volatile uint32_t word;

static void *waiter(void *tid)
{
    *(volatile pid_t *)tid = gettid();
    /*
     * A caller of futex(2) must read the word again after each return. Without a signal handler it
     * never gets EINTR.
     */
    while (word == 0)
        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL) == 0 || errno == EAGAIN);
    return NULL;
}

int main(void)
{
    pthread_t one = start(waiter, (void *)&callers[0]), two = start(waiter, (void *)&callers[1]);
    for (int n = 0; n < 2; n++) {
        while (!callers[n])
            sched_yield();
        wait_blocked(callers[n], SYS_futex);
    }
    checkpoint_here(1);
    for (int n = 0; n < 2; n++)
        wait_blocked(callers[n], SYS_futex);
    word = 1;
    CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100), 2);
    join(one);
    join(two);
    (void)blocked_in;
    return done();
}

/* personality(2) belongs to each thread. */
#include "victim.h"
#include <sys/personality.h>

static volatile int made, go_on;

/* Sets its personality; 0 is that of an ordinary program. */
static void *thread(void *wanted)
{
    CHECK(personality((long)wanted) >= 0);
    for (__atomic_add_fetch(&made, 1, __ATOMIC_SEQ_CST); !go_on;)
        pause_briefly();
    return (void *)(long)personality(0xffffffff);
}

int main(void)
{
    pthread_t plain = start(thread, (void *)PER_LINUX), other = start(thread, (void *)(ADDR_NO_RANDOMIZE | UNAME26));
    CHECK(personality(STICKY_TIMEOUTS) >= 0);
    while (made != 2)
        pause_briefly();
    checkpoint_here(1);
    go_on = 1;
    CHECK_EQ((long)join(plain), PER_LINUX);
    CHECK_EQ((long)join(other), ADDR_NO_RANDOMIZE | UNAME26);
    CHECK_EQ(personality(0xffffffff), STICKY_TIMEOUTS);
    return done();
}

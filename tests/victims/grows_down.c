/* The main stack and a MAP_GROWSDOWN mapping still grow down on access. */
#include "victim.h"

static long deep(int n)
{
    volatile char frame[4096];
    memset((char *)frame, n, sizeof frame);
    return n == 0 ? 0 : frame[17] + deep(n - 1) - (char)n + 1;
}

int main(void)
{
    char *room = map(64 << 20, PROT_NONE);
    CHECK(munmap(room, 64 << 20) == 0);
    char *at = mmap(room + (63 << 20), 8192, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    CHECK(at == room + (63 << 20));
    at[0] = 1;
    at[-4096] = 2; /* grows */
    CHECK_EQ(deep(20), 20);
    checkpoint_here(1);
    CHECK(at[0] == 1 && at[-4096] == 2);
    for (int n = 2; n < 100; n++)
        at[-n * 4096] = n;
    CHECK(at[-99 * 4096] == 99);
    CHECK_EQ(deep(1000), 1000);
    return done();
}

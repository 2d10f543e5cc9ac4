/*
 * Memory that a forked child does not inherit (MADV_DONTFORK), or inherits empty (MADV_WIPEONFORK),
 * keeps its contents.
 */
#include "victim.h"

#define LEN (1ul << 20)

int main(void)
{
    char *absent = map(LEN, RW), *wiped = map(LEN, RW);
    memset(absent, 0x11, LEN);
    memset(wiped, 0x22, LEN);
    CHECK(madvise(absent, LEN, MADV_DONTFORK) == 0 && madvise(wiped, LEN, MADV_WIPEONFORK) == 0);
    checkpoint_here(1);
    for (size_t n = 0; n < LEN; n++)
        CHECK(absent[n] == 0x11 && wiped[n] == 0x22);
    return done();
}

/* 64 GiB of MAP_NORESERVE memory with a few touched pages, far apart. Only these use memory. */
#include "victim.h"

#define LEN (64ul << 30)
#define STRIDE (1ul << 30)

int main(void)
{
    uint64_t *at = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    for (uint64_t n = 0; n < 64; n++)
        at[n * STRIDE / 8 + n * 512] = n + 1;
    checkpoint_here(1);
    for (uint64_t n = 0; n < 64; n++) {
        CHECK_EQ(at[n * STRIDE / 8 + n * 512], n + 1);
        CHECK_EQ(at[n * STRIDE / 8 + n * 512 + 512], 0);
    }
    return done();
}

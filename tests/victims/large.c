/* large: has 192 MiB, which the kernel takes a while to free. */
#include "victim.h"

#define SIZE (192ul << 20)

int main(void)
{
    uint64_t *at = mmap(NULL, SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    for (size_t n = 0; n < SIZE / 8; n += 512)
        at[n] = n + 1;
    checkpoint_here(1);
    for (size_t n = 0; n < SIZE / 8; n += 512)
        CHECK_EQ(at[n], n + 1);
    return done();
}

/* 48 MiB in three mappings, each word different. Every page is restored to its place. */
#include "victim.h"

#define WORDS (2ul << 20)

int main(void)
{
    uint64_t *at[3];
    for (uint64_t m = 0; m < 3; m++) {
        at[m] = (uint64_t *)map(WORDS * 8, RW);
        for (uint64_t n = 0; n < WORDS; n++)
            at[m][n] = (n + m * WORDS) * 0x9e3779b97f4a7c15ul;
    }
    checkpoint_here(1);
    for (uint64_t m = 0; m < 3; m++)
        for (uint64_t n = 0; n < WORDS; n++)
            CHECK_EQ(at[m][n], (n + m * WORDS) * 0x9e3779b97f4a7c15ul);
    return done();
}

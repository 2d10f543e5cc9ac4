/* The heap keeps its contents. sbrk(2) still grows and shrinks it from the same break. */
#include "victim.h"

int main(void)
{
    char *volatile first = malloc(1); /* the C library takes its own part of the heap now */
    char *begin = sbrk(1 << 20);
    CHECK(begin != (void *)-1);
    memset(begin, 0x5a, 1 << 20);
    CHECK(first);
    char *end = sbrk(0);
    checkpoint_here(1);
    CHECK(sbrk(0) == end);
    for (int n = 0; n < 1 << 20; n++)
        CHECK(begin[n] == 0x5a);
    CHECK(sbrk(1 << 20) == end && end[0] == 0 && end[(1 << 20) - 1] == 0);
    end[(1 << 20) - 1] = 1;
    CHECK(sbrk(-(2 << 20)) != (void *)-1 && sbrk(0) == begin);
    return done();
}

/* mappings COUNT: has that many mappings, or more. */
#include "victim.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    long count = atol(argv[1]);
    char *at = mmap(NULL, count * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    for (long n = 1; n < count; n += 2)
        CHECK(mprotect(at + n * 4096, 4096, PROT_READ) == 0);
    checkpoint_here(1);
    for (long n = 1; n < count; n += 2)
        CHECK_EQ(at[n * 4096], 0);
    return done();
}

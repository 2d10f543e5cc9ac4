/*
 * rewrites MIB: fills MIB MiB of memory, and after the next checkpoint writes all of it once more.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    size_t len = (size_t)atoi(argv[1]) << 20;
    checkpoint_here(1);
    char *at = map(len, RW);
    memset(at, 1, len);
    checkpoint_here(2);
    memset(at, 2, len);
    for (size_t n = 0; n < len; n += 4096)
        CHECK_EQ(at[n], 2);
    return done();
}

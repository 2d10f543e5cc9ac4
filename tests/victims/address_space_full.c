/*
 * RLIMIT_AS is below what is already mapped. Not one more page can be mapped, not even for a
 * checkpoint.
 */
#include "victim.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit before = {0}, none = {0, 0};
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    none.rlim_max = before.rlim_max;
    dprintf(1, "limited\n"); /* stdio now has all the memory it needs */
    CHECK(setrlimit(RLIMIT_AS, &none) == 0);
    CHECK(mmap(NULL, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    checkpoint_here(1);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    return done();
}

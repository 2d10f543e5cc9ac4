/*
 * Grows by 24 MiB at each odd step and shrinks again at the next. The memory that remains at the
 * end is intact.
 */
#include "victim.h"

#define LEN (24ul << 20)

int main(void)
{
    char *more = NULL;
    for (int n = 1; n <= 6; n++) {
        if (n % 2) {
            more = map(LEN, RW);
            for (size_t at = 0; at < LEN; at++)
                more[at] = (char)(at * 2654435761u >> 13) | 1;
        } else {
            CHECK(munmap(more, LEN) == 0);
        }
        checkpoint_here(n);
    }
    return done();
}

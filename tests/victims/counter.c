/* Counts in memory and goes on from where it was: the smallest thing worth freezing. */
#include "victim.h"

int main(void)
{
    volatile unsigned long count = 0;
    for (int n = 1; n <= 2; n++) {
        while (count < 1000ul * n)
            count++;
        checkpoint_here(n);
        CHECK_EQ(count, 1000 * n);
    }
    return done();
}

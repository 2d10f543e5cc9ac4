/* Counts in memory and continues from the same count: the smallest useful victim. */
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

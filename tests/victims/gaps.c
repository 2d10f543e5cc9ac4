/*
 * Reads the clock continuously until "go.1" appears, then prints in microseconds the longest gap
 * between two readings.
 */
#include "victim.h"

int main(void)
{
    double last = now(), longest = 0;
    dprintf(1, "ready 1\n");
    for (int n = 1; n % 4096 || access("go.1", F_OK) != 0; n++) {
        double next = now();
        if (next - last > longest)
            longest = next - last;
        last = next;
    }
    dprintf(1, "longest %ld\n", (long)(longest * 1e6));
    return done();
}

/*
 * Mappings at unusual places: the lowest allowed address, one page below the top, next to the end
 * of the stack.
 */
#include "victim.h"

int main(void)
{
    static char *const places[] = {(char *)0x10000, (char *)0x7ffffffde000, (char *)0x100000000, (char *)0x123456789000};
    for (int n = 0; n < 4; n++) {
        char *at = mmap(places[n], 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(at == places[n]);
        memset(at, 'p' + n, 4096);
    }
    checkpoint_here(1);
    for (int n = 0; n < 4; n++)
        CHECK(places[n][0] == 'p' + n && places[n][4095] == 'p' + n);
    return done();
}

/* Touched, zeroed and untouched pages alternate, with unmapped holes between mappings. */
#include "victim.h"

#define PAGES 600

int main(void)
{
    char *at = map(PAGES * 4096, RW), *page;
    unsigned char in_core;
    for (int n = 0; n < PAGES; n++) {
        page = at + n * 4096;
        if (n % 4 == 0)
            page[n % 4096] = n % 251 + 1;
        else if (n % 4 == 1)
            memset(page, 0, 4096);
        else if (n % 40 == 2)
            CHECK(munmap(page, 4096) == 0);
        else if (n % 40 == 3)
            CHECK(*(volatile char *)page == 0); /* reads the zero page */
    }
    checkpoint_here(1);
    for (int n = 0; n < PAGES; n++) {
        page = at + n * 4096;
        int gone = n % 4 >= 2 && n % 40 == 2;
        CHECK_EQ(mincore(page, 4096, &in_core), gone ? -1 : 0);
        for (int b = 0; b < 4096 && !gone; b++)
            CHECK_EQ(page[b] & 255, n % 4 == 0 && b == n % 4096 ? n % 251 + 1 : 0);
    }
    return done();
}

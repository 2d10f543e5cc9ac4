/*
 * Has the second page of "table" (three pages) mapped privately, and its executable. Tests of the
 * mount install these files again in the meantime.
 */
#include "victim.h"

int main(void)
{
    char pages[3 * 4096];
    int file = open("table", O_RDWR | O_CREAT, 0600);
    memset(pages, 't', sizeof pages);
    CHECK(write(file, pages, sizeof pages) == sizeof pages);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 4096);
    CHECK(map != MAP_FAILED && close(file) == 0);
    checkpoint_here(1);
    for (int n = 0; n < 4096; n++)
        CHECK_EQ(map[n], 't');
    return done();
}

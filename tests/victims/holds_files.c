/*
 * Holds "data" (1000 bytes) at offset 500 and a shared mapping of "map" (two pages). Tests of the
 * mount change or remove these files in the meantime.
 */
#include "victim.h"

int main(void)
{
    char page[8192] = "of the file";
    int data = open("data", O_RDWR | O_CREAT, 0600), file = open("map", O_RDWR | O_CREAT, 0600);
    CHECK(write(data, page, 1000) == 1000 && lseek(data, 500, SEEK_SET) == 500 && write(file, page, 8192) == 8192);
    char *map = mmap(NULL, 8192, RW, MAP_SHARED, file, 0);
    CHECK(map != MAP_FAILED && close(file) == 0);
    checkpoint_here(1);
    CHECK(lseek(data, 0, SEEK_CUR) == 500 && strcmp(map, "of the file") == 0);
    return done();
}

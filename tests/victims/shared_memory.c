/*
 * Shared anonymous memory: mapped twice (mremap(2) of length 0), partly unmapped, with protections
 * and holes. It is still one object.
 */
#include "victim.h"

enum { SIZE = 2 << 20, PAGE = 4096 };

int main(void)
{
    char *one = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(one != MAP_FAILED);
    char *two = mremap(one, 0, SIZE, MREMAP_MAYMOVE);
    char *other = mmap(NULL, 3 * PAGE + 100, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(two != MAP_FAILED && other != MAP_FAILED);
    strcpy(one, "begin");
    strcpy(one + SIZE - PAGE, "end");
    strcpy(other, "another");
    CHECK(munmap(one + 16 * PAGE, 16 * PAGE) == 0 && mprotect(two + 64 * PAGE, PAGE, PROT_READ) == 0);
    strcpy(two + 20 * PAGE, "mapped once");

    checkpoint_here(1);

    unsigned char resident[SIZE / PAGE];
    CHECK(strcmp(two, "begin") == 0 && strcmp(two + SIZE - PAGE, "end") == 0 && strcmp(other, "another") == 0);
    CHECK(strcmp(two + 20 * PAGE, "mapped once") == 0);
    CHECK(mincore(two, SIZE, resident) == 0 && !(resident[100] & 1));
    strcpy(one + 40 * PAGE, "still one");
    CHECK(strcmp(two + 40 * PAGE, "still one") == 0);
    CHECK(other[PAGE] == 0 && two[PAGE] == 0);
    CHECK(*proc_line("/proc/self/maps", "") != 0);
    char *maps = slurp("/proc/self/maps", NULL);
    CHECK(strstr(maps, "rw-s") && strstr(maps, "/dev/zero (deleted)"));
    return done();
}

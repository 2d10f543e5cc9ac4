/*
 * Mappings of an unlinked file, shared and private, writable and read-only, without a descriptor;
 * and one with a descriptor.
 */
#include "victim.h"

enum { PAGE = 4096, PAGES = 64, SIZE = PAGES * PAGE };

int main(void)
{
    struct stat st;
    int gone = open("gone", O_RDWR | O_CREAT, 0600), held = open("held", O_RDWR | O_CREAT, 0600);
    CHECK(ftruncate(gone, SIZE) == 0 && ftruncate(held, SIZE - 100) == 0 && pwrite(gone, "of the file", 12, 3 * PAGE) == 12);
    char *shared = mmap(NULL, SIZE, RW, MAP_SHARED, gone, 0), *part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, gone, 5 * PAGE);
    char *private = mmap(NULL, SIZE, RW, MAP_PRIVATE, gone, 0), *still = mmap(NULL, SIZE, RW, MAP_SHARED, held, 0);
    CHECK(shared != MAP_FAILED && part != MAP_FAILED && private != MAP_FAILED && still != MAP_FAILED);
    strcpy(private + 4 * PAGE, "mine alone");
    strcpy(shared + 5 * PAGE, "through the mapping");
    strcpy(still + 6 * PAGE, "held");
    CHECK(close(gone) == 0 && unlink("gone") == 0 && unlink("held") == 0);

    checkpoint_here(1);

    char text[8] = "", *maps = slurp("/proc/self/maps", NULL);
    CHECK(strcmp(private + 3 * PAGE, "of the file") == 0 && strcmp(shared + 3 * PAGE, "of the file") == 0);
    CHECK(strcmp(private + 4 * PAGE, "mine alone") == 0 && shared[4 * PAGE] == 0);
    CHECK(strcmp(part, "through the mapping") == 0 && strcmp(private + 5 * PAGE, "through the mapping") == 0);
    CHECK(strstr(maps, "/gone (deleted)") && strstr(maps, "/held (deleted)") && access("gone", F_OK) < 0);
    /* It is still one file. */
    strcpy(shared + 5 * PAGE, "again");
    CHECK(strcmp(part, "again") == 0 && strcmp(private + 5 * PAGE, "again") == 0);
    CHECK(pread(held, text, 5, 6 * PAGE) == 5 && strcmp(text, "held") == 0);
    CHECK(pwrite(held, "new", 4, 7 * PAGE) == 4 && strcmp(still + 7 * PAGE, "new") == 0);
    CHECK(fstat(held, &st) == 0 && st.st_size == SIZE - 100);
    CHECK(mprotect(part, PAGE, RW) == 0 && (*part = 'x') && shared[5 * PAGE] == 'x');
    return done();
}

/* A private mapping of a file. Changed pages keep their changes, all others still show the file. */
#include "victim.h"

int main(void)
{
    char page[4096];
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    for (int n = 0; n < 64; n++) {
        memset(page, 'a' + n % 26, sizeof page);
        CHECK(write(fd, page, sizeof page) == sizeof page);
    }
    /* The mapping starts at the second page of the file and extends two pages beyond its end. */
    char *at = mmap(NULL, 65 * 4096, RW, MAP_PRIVATE, fd, 4096);
    CHECK(at != MAP_FAILED && close(fd) == 0);
    for (int n = 0; n < 63; n += 5)
        memset(at + n * 4096, 'A' + n % 26, 4096);
    CHECK(*(volatile char *)(at + 4096) == 'c'); /* present, not changed */
    checkpoint_here(1);
    for (int n = 0; n < 63; n++)
        for (int b = 0; b < 4096; b += 511)
            CHECK_EQ(at[n * 4096 + b], n % 5 == 0 ? 'A' + n % 26 : 'a' + (n + 1) % 26);
    fd = open("data", O_RDWR);
    CHECK(pwrite(fd, "!", 1, 3 * 4096) == 1);
    CHECK_EQ(at[2 * 4096], '!');
    at[2 * 4096] = '?';
    CHECK(pread(fd, page, 1, 3 * 4096) == 1 && page[0] == '!');
    return done();
}

/* 2 GiB of memory at 0x200000000000. 100 MiB of it are written, and more was only read. */
#include "victim.h"

int main(void)
{
    char *at = mmap((void *)0x200000000000, 2ul << 30, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at == (void *)0x200000000000 && madvise(at, 2ul << 30, MADV_NOHUGEPAGE) == 0);
    /* Half of the 100 MiB in one piece, half in pages far apart. */
    for (long n = 0; n < 50 * 256; n++) {
        memset(at + n * 4096, n % 255 + 1, 4096);
        memset(at + (1ul << 30) + n * 65536, n % 255 + 1, 4096);
    }
    for (long n = 50 * 256; n < 75 * 256; n++)
        CHECK(*(volatile char *)(at + n * 4096) == 0);
    checkpoint_here(1);
    for (long n = 0; n < 50 * 256; n++) {
        CHECK_EQ((unsigned char)at[n * 4096 + n % 4096], n % 255 + 1);
        CHECK_EQ((unsigned char)at[(1ul << 30) + n * 65536 + n % 4096], n % 255 + 1);
        CHECK_EQ(at[(1ul << 30) + n * 65536 + 4096], 0);
    }
    return done();
}

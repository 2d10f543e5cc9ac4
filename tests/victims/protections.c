/*
 * Adjacent mappings with every protection keep their contents. After mprotect(2) they are readable
 * again.
 */
#include "victim.h"

int main(void)
{
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_EXEC, RW, RW | PROT_EXEC, PROT_EXEC};
    static const char *shown[] = {"---p", "r--p", "r-xp", "rw-p", "rwxp", "--xp"};
    char *at = map(6 * 8192, RW), key[64];
    for (int n = 0; n < 6; n++) {
        memset(at + n * 8192, 'a' + n, 4096);
        /* mov $42, %eax: its zero bytes are already there. ret follows. */
        strcpy(at + n * 8192 + 4096, "\xb8\x2a\0\0");
        at[n * 8192 + 4096 + 5] = (char)0xc3;
        CHECK(mprotect(at + n * 8192, 8192, prots[n]) == 0);
    }
    checkpoint_here(1);
    CHECK_EQ(((int (*)(void))(at + 2 * 8192 + 4096))(), 42);
    CHECK_EQ(((int (*)(void))(at + 4 * 8192 + 4096))(), 42);
    CHECK_EQ(((int (*)(void))(at + 5 * 8192 + 4096))(), 42);
    for (int n = 0; n < 6; n++) { /* check all before changing any: equal neighbours merge */
        snprintf(key, sizeof key, "%lx-%lx ", (long)at + n * 8192, (long)at + (n + 1) * 8192);
        CHECK(strncmp(proc_line("/proc/self/maps", key), shown[n], 4) == 0);
    }
    for (int n = 0; n < 6; n++) {
        CHECK(mprotect(at + n * 8192, 8192, RW) == 0);
        for (int b = 0; b < 4096; b++)
            CHECK_EQ(at[n * 8192 + b], 'a' + n);
        CHECK_EQ((unsigned char)at[n * 8192 + 4096], 0xb8);
    }
    return done();
}

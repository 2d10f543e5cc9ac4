/* The advice that madvise(2) gave for a mapping is kept: its VmFlags are the same. */
#include "victim.h"

#define LEN (4ul << 20)

/* The VmFlags of the mapping at `at`. The caller frees the buffer. */
static char *flags(char *at)
{
    char key[32];
    char *text = slurp("/proc/self/smaps", NULL);
    snprintf(key, sizeof key, "%lx-", (unsigned long)at);
    char *line = strstr(text, key);
    CHECK(line && (line = strstr(line, "VmFlags: ")));
    char *found = strndup(line, strcspn(line, "\n"));
    free(text);
    return found;
}

int main(void)
{
    static const int advice[] = {MADV_DONTDUMP, MADV_DONTFORK, MADV_WIPEONFORK, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_SEQUENTIAL,
                                 MADV_RANDOM, MADV_MERGEABLE, MADV_NORMAL};
    enum { COUNT = sizeof advice / sizeof advice[0] };
    char *at[COUNT], *before[COUNT];
    for (int n = 0; n < COUNT; n++) {
        at[n] = map(LEN, RW);
        CHECK(mprotect(at[n] + LEN - 4096, 4096, PROT_NONE) == 0); /* keeps neighbours apart */
        at[n][5] = n + 1;
        if (madvise(at[n], LEN - 4096, advice[n]) != 0)
            CHECK_EQ(errno, EINVAL); /* this kernel lacks the feature */
        before[n] = flags(at[n]);
    }
    checkpoint_here(1);
    for (int n = 0; n < COUNT; n++) {
        CHECK_EQ(at[n][5], n + 1);
        char *after = flags(at[n]);
        if (strcmp(before[n], after) != 0) {
            dprintf(1, "FAIL advice %d before: %s after: %s\n", advice[n], before[n], after);
            return 1;
        }
    }
    return done();
}

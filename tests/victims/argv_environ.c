/* Arguments, environment and auxiliary vector stay the same, in memory and in /proc. */
#include "victim.h"
#include <sys/auxv.h>

static const char *files[] = {"cmdline", "environ", "auxv"};

int main(int argc, char **argv)
{
    char *before[3], path[64], exe[512] = "", exe_after[512] = "";
    size_t len[3], again;
    CHECK(argc == 3 && strcmp(argv[1], "one argument") == 0 && strcmp(argv[2], "") == 0);
    CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    for (int n = 0; n < 3; n++) {
        snprintf(path, sizeof path, "/proc/self/%s", files[n]);
        before[n] = slurp(path, &len[n]);
        CHECK(len[n] > 0);
    }
    unsigned long page = getauxval(AT_PAGESZ), vdso = getauxval(AT_SYSINFO_EHDR), random = getauxval(AT_RANDOM);
    checkpoint_here(1);
    for (int n = 0; n < 3; n++) {
        snprintf(path, sizeof path, "/proc/self/%s", files[n]);
        char *after = slurp(path, &again);
        CHECK(again == len[n] && memcmp(before[n], after, again) == 0);
    }
    CHECK(readlink("/proc/self/exe", exe_after, sizeof exe_after - 1) > 0 && strcmp(exe, exe_after) == 0);
    CHECK(strcmp(argv[1], "one argument") == 0 && strcmp(getenv("VICTIM"), "yes") == 0);
    CHECK_EQ(getauxval(AT_PAGESZ), page);
    CHECK_EQ(getauxval(AT_SYSINFO_EHDR), vdso);
    CHECK_EQ(getauxval(AT_RANDOM), random);
    return done();
}

/* The root directory: paths still start there, and nothing above it is visible. */
#include "victim.h"

int main(void)
{
    struct stat before, after;
    CHECK(mkdir("sub", 0755) == 0 && chroot(".") == 0 && chdir("/sub") == 0 && stat("/", &before) == 0);
    go_dir = "/";
    checkpoint_here(1);
    char cwd[64];
    CHECK(stat("/", &after) == 0 && before.st_ino == after.st_ino && before.st_dev == after.st_dev);
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(cwd, "/sub") == 0);
    CHECK(access("/usr", F_OK) == -1 && access("/../usr", F_OK) == -1 && access("/out", F_OK) == 0);
    return done();
}

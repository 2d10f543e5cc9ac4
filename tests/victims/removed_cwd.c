/* A working directory that was removed. */
#include "victim.h"

int main(void)
{
    char here[512], link[512] = "";
    struct stat before, after;
    CHECK(getcwd(here, sizeof here) && mkdir("deeper", 0711) == 0 && chdir("deeper") == 0 && rmdir("../deeper") == 0);
    CHECK(stat(".", &before) == 0);
    go_dir = "..";
    checkpoint_here(1);
    CHECK(stat(".", &after) == 0 && after.st_mode == before.st_mode && after.st_nlink == 0);
    CHECK(readlink("/proc/self/cwd", link, sizeof link) > 0 && strstr(link, "/deeper (deleted)"));
    CHECK(getcwd(link, sizeof link) == NULL && errno == ENOENT && open("x", O_RDWR | O_CREAT, 0600) < 0);
    CHECK(chdir("..") == 0 && getcwd(link, sizeof link) && strcmp(link, here) == 0 && access("deeper", F_OK) < 0);
    return done();
}

/*
 * A renamed open file, and an open file in a renamed directory, are the same files under their new
 * names.
 */
#include "victim.h"

int main(void)
{
    struct stat before[2], after;
    int fds[2];
    CHECK(mkdir("old", 0755) == 0);
    fds[0] = open("a", O_RDWR | O_CREAT, 0600);
    fds[1] = open("old/b", O_RDWR | O_CREAT, 0600);
    CHECK(rename("a", "name with\nnewline") == 0 && rename("old", "new") == 0);
    for (int n = 0; n < 2; n++)
        CHECK(fstat(fds[n], &before[n]) == 0);
    checkpoint_here(1);
    for (int n = 0; n < 2; n++) {
        CHECK(fstat(fds[n], &after) == 0);
        CHECK(after.st_ino == before[n].st_ino && after.st_dev == before[n].st_dev);
    }
    return done();
}

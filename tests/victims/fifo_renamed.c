/* A FIFO that was renamed into another directory while open. Its new name still leads to it. */
#include "victim.h"

int main(void)
{
    char text[16];
    struct stat before, after;
    CHECK(mkfifo("before", 0600) == 0 && mkdir("dir", 0700) == 0);
    int both = open("before", O_RDWR);
    CHECK(write(both, "waiting", 7) == 7 && rename("before", "dir/after") == 0 && fstat(both, &before) == 0);
    checkpoint_here(1);
    CHECK(fstat(both, &after) == 0 && after.st_ino == before.st_ino && after.st_nlink == 1);
    int named = open("dir/after", O_WRONLY | O_NONBLOCK);
    CHECK(named >= 0 && write(named, "more", 4) == 4 && access("before", F_OK) != 0);
    CHECK(read(both, text, 16) == 11 && memcmp(text, "waitingmore", 11) == 0);
    return done();
}

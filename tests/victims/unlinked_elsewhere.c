/*
 * A file was unlinked under the name it was opened by, but has another name in the same directory.
 * It is still the same file.
 */
#include "victim.h"

int main(void)
{
    struct stat before, after;
    int fd = open("one", O_RDWR | O_CREAT | O_APPEND, 0600);
    CHECK(write(fd, "abc", 3) == 3 && link("one", "two") == 0 && unlink("one") == 0 && fstat(fd, &before) == 0);
    char *map = mmap(NULL, 4096, RW, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && lseek(fd, 1, SEEK_SET) == 1);
    checkpoint_here(1);
    CHECK(fstat(fd, &after) == 0 && after.st_ino == before.st_ino && after.st_nlink == 1 && stat("two", &after) == 0);
    CHECK(after.st_ino == before.st_ino && access("one", F_OK) < 0 && lseek(fd, 0, SEEK_CUR) == 1);
    CHECK(memcmp(map, "abc", 3) == 0 && write(fd, "d", 1) == 1 && map[3] == 'd');
    return done();
}

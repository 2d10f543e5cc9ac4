/*
 * Unlinked files: one with its name taken by another file, and one with its directory removed. A
 * third file was not unlinked: its name only ends in " (deleted)".
 */
#include "victim.h"

int main(void)
{
    char text[8] = "";
    struct stat st;
    CHECK(mkdir("dir", 0700) == 0);
    int taken = open("taken", O_RDWR | O_CREAT, 0600), deep = open("dir/deep", O_RDWR | O_CREAT, 0600);
    int looks = open("looks (deleted)", O_RDWR | O_CREAT, 0600);
    CHECK(write(taken, "old", 3) == 3 && write(deep, "deep", 4) == 4 && write(looks, "looks", 5) == 5);
    CHECK(unlink("taken") == 0 && unlink("dir/deep") == 0 && rmdir("dir") == 0);
    int other = open("taken", O_RDWR | O_CREAT, 0600), twin = open("looks", O_RDWR | O_CREAT, 0600);
    CHECK(write(other, "new", 3) == 3 && twin >= 0);
    checkpoint_here(1);
    CHECK(pread(taken, text, 8, 0) == 3 && memcmp(text, "old", 3) == 0 && fstat(taken, &st) == 0 && st.st_nlink == 0);
    CHECK(pread(deep, text, 8, 0) == 4 && memcmp(text, "deep", 4) == 0 && fstat(deep, &st) == 0 && st.st_nlink == 0);
    CHECK(pread(other, text, 8, 0) == 3 && memcmp(text, "new", 3) == 0 && fstat(other, &st) == 0 && st.st_nlink == 1);
    CHECK(pread(looks, text, 8, 0) == 5 && memcmp(text, "looks", 5) == 0 && fstat(looks, &st) == 0 && st.st_nlink == 1);
    CHECK(access("dir", F_OK) < 0 && pread(twin, text, 8, 0) == 0);
    return done();
}

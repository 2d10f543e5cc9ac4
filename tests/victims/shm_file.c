/*
 * Files of a tmpfs (shm_open(3)), mapped shared. A named file keeps its contents itself. The
 * contents of an unlinked file are in the image.
 */
#include "victim.h"

enum { SIZE = 1 << 20 };

int main(void)
{
    char named[64], gone[64], link[128] = "", text[8] = "";
    struct stat st;
    snprintf(named, sizeof named, "/ckptfs-victim-named-%d", getpid());
    snprintf(gone, sizeof gone, "/ckptfs-victim-gone-%d", getpid());
    int one = shm_open(named, O_RDWR | O_CREAT | O_EXCL, 0600), two = shm_open(gone, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(one == 3 && two == 4 && ftruncate(one, SIZE) == 0 && ftruncate(two, SIZE) == 0);
    char *map = mmap(NULL, SIZE, RW, MAP_SHARED, one, 0), *lost = mmap(NULL, SIZE, RW, MAP_SHARED, two, 0);
    char *twice = mmap(NULL, SIZE, RW, MAP_SHARED, two, 0);
    CHECK(map != MAP_FAILED && lost != MAP_FAILED && twice != MAP_FAILED && shm_unlink(gone) == 0);
    strcpy(map + 8192, "named");
    strcpy(lost + 8192, "gone");
    checkpoint_here(1);
    CHECK(strcmp(map + 8192, "named") == 0 && strcmp(lost + 8192, "gone") == 0 && strcmp(twice + 8192, "gone") == 0);
    strcpy(map, "on");
    strcpy(lost, "too");
    CHECK(pread(one, text, 3, 0) == 3 && strcmp(text, "on") == 0 && strcmp(twice, "too") == 0);
    CHECK(pread(two, text, 4, 0) == 4 && strcmp(text, "too") == 0 && fstat(two, &st) == 0 && st.st_blocks == 16);
    CHECK(readlink("/proc/self/fd/4", link, sizeof link) > 0 && strncmp(link, "/dev/shm/ckptfs-victim-gone-", 28) == 0);
    CHECK(strstr(link, " (deleted)") && shm_unlink(named) == 0);
    return done();
}

/*
 * A shared mapping of a file. After the checkpoint, writes through the mapping reach the file, and
 * writes to the file show in the mapping.
 */
#include "victim.h"

int main(void)
{
    char byte;
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 8 * 4096) == 0);
    char *at = mmap(NULL, 8 * 4096, RW, MAP_SHARED, fd, 0);
    char *reader = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
    CHECK(at != MAP_FAILED && reader != MAP_FAILED && close(fd) == 0);
    at[0] = 'x';
    at[4096] = 'y';
    checkpoint_here(1);
    CHECK(at[0] == 'x' && at[4096] == 'y' && reader[0] == 'y' && at[2 * 4096] == 0);
    at[0] = 'X';
    at[4096 + 1] = 'Z';
    CHECK(reader[1] == 'Z');
    fd = open("data", O_RDWR);
    CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 'X');
    CHECK(pwrite(fd, "w", 1, 3 * 4096) == 1 && at[3 * 4096] == 'w');
    return done();
}

/*
 * Open files keep their descriptor number, position and access mode. There may be gaps between the
 * numbers.
 */
#include "victim.h"

int main(void)
{
    char text[8];
    int rw = open("data", O_RDWR | O_CREAT, 0644);
    CHECK(write(rw, "0123456789abcdef", 16) == 16 && lseek(rw, 5, SEEK_SET) == 5);
    int ro = open("data", O_RDONLY), wo = open("data", O_WRONLY);
    CHECK(dup2(ro, 500) == 500 && dup2(wo, 77) == 77 && close(ro) == 0 && close(wo) == 0);
    CHECK(lseek(500, 10, SEEK_SET) == 10 && lseek(77, 1000000, SEEK_SET) == 1000000);
    checkpoint_here(1);
    CHECK_EQ(lseek(rw, 0, SEEK_CUR), 5);
    CHECK_EQ(lseek(500, 0, SEEK_CUR), 10);
    CHECK_EQ(lseek(77, 0, SEEK_CUR), 1000000);
    CHECK_EQ(fcntl(rw, F_GETFL) & O_ACCMODE, O_RDWR);
    CHECK_EQ(fcntl(500, F_GETFL) & O_ACCMODE, O_RDONLY);
    CHECK_EQ(fcntl(77, F_GETFL) & O_ACCMODE, O_WRONLY);
    CHECK(read(rw, text, 3) == 3 && memcmp(text, "567", 3) == 0);
    CHECK(read(500, text, 3) == 3 && memcmp(text, "abc", 3) == 0);
    CHECK(write(500, "x", 1) == -1 && read(77, text, 1) == -1);
    for (int fd = 3; fd < 600; fd++)
        CHECK_EQ(fcntl(fd, F_GETFD) >= 0, fd == rw || fd == 500 || fd == 77);
    return done();
}

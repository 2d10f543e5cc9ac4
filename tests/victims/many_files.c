/* Two thousand open files, each at its own position. */
#include "victim.h"

int main(void)
{
    char name[16];
    for (int n = 0; n < 2000; n++) {
        snprintf(name, sizeof name, "f%d", n);
        int fd = open(name, O_RDWR | O_CREAT, 0600);
        CHECK_EQ(fd, 3 + n);
        CHECK(lseek(fd, n * 3, SEEK_SET) == n * 3);
    }
    checkpoint_here(1);
    for (int n = 0; n < 2000; n++)
        CHECK_EQ(lseek(3 + n, 0, SEEK_CUR), n * 3);
    return done();
}

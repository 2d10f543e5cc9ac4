/*
 * Duplicated descriptors share one position and one set of flags. Descriptors that were opened
 * separately do not, even with the same file, position and flags.
 */
#include "victim.h"

int main(void)
{
    int one = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(ftruncate(one, 1000) == 0);
    int two = dup(one), far = fcntl(one, F_DUPFD, 300), other = open("data", O_RDWR);
    CHECK(two >= 0 && far == 300 && other >= 0);
    /* Position and flags are equal. Only the kernel knows that these are two descriptions. */
    checkpoint_here(1);
    CHECK(lseek(one, 100, SEEK_SET) == 100);
    CHECK_EQ(lseek(two, 0, SEEK_CUR), 100);
    CHECK_EQ(lseek(far, 0, SEEK_CUR), 100);
    CHECK_EQ(lseek(other, 0, SEEK_CUR), 0);
    CHECK(fcntl(far, F_SETFL, O_APPEND) == 0 && (fcntl(one, F_GETFL) & O_APPEND) && !(fcntl(other, F_GETFL) & O_APPEND));
    CHECK(close(one) == 0 && close(two) == 0 && lseek(far, 7, SEEK_CUR) == 107);
    return done();
}

/* FD_CLOEXEC belongs to each descriptor, even where two descriptors share one file. */
#include "victim.h"

int main(void)
{
    int one = open("data", O_RDWR | O_CREAT | O_CLOEXEC, 0600), two = dup(one), three = fcntl(two, F_DUPFD_CLOEXEC, 40);
    CHECK(one >= 0 && two >= 0 && three == 40);
    checkpoint_here(1);
    CHECK_EQ(fcntl(one, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(two, F_GETFD), 0);
    CHECK_EQ(fcntl(three, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(0, F_GETFD), 0);
    return done();
}

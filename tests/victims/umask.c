/* The file mode creation mask stays the same. */
#include "victim.h"

int main(void)
{
    struct stat st;
    umask(0137);
    checkpoint_here(1);
    CHECK(close(open("data", O_RDWR | O_CREAT, 0777)) == 0 && stat("data", &st) == 0);
    CHECK_EQ(st.st_mode & 0777, 0640);
    CHECK_EQ(umask(0), 0137);
    return done();
}

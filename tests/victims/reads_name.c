/*
 * A process of user "nobody" that has its file "kept" open, and prints the contents after each
 * checkpoint.
 */
#include "victim.h"

int main(void)
{
    char text[64];
    int fd = open("kept", O_RDONLY);
    CHECK(fd >= 0);
    for (int n = 1;; n++) {
        checkpoint_here(n);
        ssize_t got = pread(fd, text, sizeof text, 0);
        CHECK(got >= 0);
        dprintf(1, "it reads %.*s\n", (int)got, text);
    }
}

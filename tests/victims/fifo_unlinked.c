/* An unlinked FIFO: contents, mode, both ends. Its old name is free, or belongs to another file. */
#include "victim.h"

int main(void)
{
    char text[64], link[64] = "", again[64] = "";
    struct stat st;
    CHECK(mkfifo("gone", 0600) == 0 && mkfifo("taken", 0600) == 0);
    int reader = open("gone", O_RDONLY | O_NONBLOCK), writer = open("gone", O_WRONLY), taken = open("taken", O_RDWR);
    CHECK(write(writer, "waiting", 7) == 7 && write(taken, "other", 5) == 5 && fchmod(reader, 0642) == 0);
    CHECK(unlink("gone") == 0 && unlink("taken") == 0 && close(open("taken", O_CREAT | O_WRONLY, 0600)) == 0);
    CHECK(readlink("/proc/self/fd/3", link, 63) > 0);
    checkpoint_here(1);
    CHECK(fstat(writer, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_nlink == 0 && (st.st_mode & 07777) == 0642);
    CHECK(readlink("/proc/self/fd/3", again, 63) > 0 && strcmp(link, again) == 0);
    CHECK(access("gone", F_OK) != 0 && stat("taken", &st) == 0 && S_ISREG(st.st_mode));
    CHECK(fcntl(reader, F_GETFL) & O_NONBLOCK && !(fcntl(writer, F_GETFL) & O_NONBLOCK));
    CHECK(read(reader, text, 64) == 7 && memcmp(text, "waiting", 7) == 0);
    CHECK(read(taken, text, 64) == 5 && memcmp(text, "other", 5) == 0);
    CHECK(write(writer, "more", 4) == 4 && read(reader, text, 64) == 4);
    close(writer);
    CHECK_EQ(read(reader, text, 64), 0);
    return done();
}

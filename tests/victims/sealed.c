/*
 * Shared mappings that can never become writable: of a sealed memfd (through a writable
 * descriptor), and of files opened for reading. Contents and seals stay, and mprotect(2) still
 * refuses to make them writable. A mapping made before F_SEAL_FUTURE_WRITE can still write.
 */
#include "victim.h"

enum { COUNT = 4 };

static char *view(int fd)
{
    char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static int sealed(const char *name, int seal, char **before)
{
    int fd = memfd_create(name, MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && write(fd, name, strlen(name)) == (ssize_t)strlen(name) && ftruncate(fd, 4096) == 0);
    if (before)
        *before = view(fd);
    CHECK(fcntl(fd, F_ADD_SEALS, seal) == 0);
    return fd;
}

int main(void)
{
    char *early;
    int now = sealed("sealed", F_SEAL_WRITE, NULL), later = sealed("later", F_SEAL_FUTURE_WRITE, &early);
    int data = open("data", O_RDWR | O_CREAT, 0600), reads = open("data", O_RDONLY);
    CHECK(data >= 0 && reads >= 0 && write(data, "data", 4) == 4 && ftruncate(data, 4096) == 0);
    char *at[COUNT] = {view(now), view(later), view(reads), view(open("/proc/self/fd/3", O_RDONLY))};
    char *open_to_all = view(data);
    CHECK(now == 3);

    checkpoint_here(1);

    CHECK(strcmp(at[0], "sealed") == 0 && strcmp(at[1], "later") == 0 && strcmp(at[2], "data") == 0);
    CHECK(strcmp(at[3], "sealed") == 0 && strcmp(early, "later") == 0);
    CHECK_EQ(fcntl(now, F_GET_SEALS), F_SEAL_WRITE);
    CHECK_EQ(fcntl(later, F_GET_SEALS), F_SEAL_FUTURE_WRITE);
    for (int i = 0; i < COUNT; i++)
        CHECK(mprotect(at[i], 4096, RW) == -1 && errno == EACCES);
    CHECK(mprotect(early, 4096, RW) == 0 && mprotect(open_to_all, 4096, RW) == 0);
    early[0] = open_to_all[0] = 'D';
    CHECK(at[1][0] == 'D' && at[2][0] == 'D');
    CHECK(pwrite(now, "x", 1, 0) == -1 && errno == EPERM && pwrite(later, "x", 1, 0) == -1 && errno == EPERM);
    return done();
}

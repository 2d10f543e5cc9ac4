/*
 * Descriptors of shared memory that has no name: anonymous and System V, opened through
 * /proc/self/map_files. They keep their offsets and flags.
 */
#include "victim.h"
#include <sys/shm.h>

enum { SIZE = 3 * 4096 };

static int opened(const char *at, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)at, (long)at + SIZE);
    int fd = open(path, flags);
    CHECK(fd >= 0);
    return fd;
}

static void check(char *memory, int reader, int writer, char mark)
{
    char seen = 0;
    CHECK_EQ(lseek(reader, 0, SEEK_CUR), 4097);
    CHECK_EQ(lseek(writer, 0, SEEK_CUR), 77);
    CHECK((fcntl(writer, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR));
    CHECK_EQ(fcntl(reader, F_GETFL) & (O_APPEND | O_ACCMODE), O_RDONLY);
    CHECK(read(reader, &seen, 1) == 1 && seen == mark && lseek(reader, 4097, SEEK_SET) == 4097);
    memory[0]++;
    CHECK(pread(writer, &seen, 1, 0) == 1 && seen == memory[0]);
}

int main(void)
{
    int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
    char *anon = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *sysv = shmat(id, NULL, 0);
    CHECK(id >= 0 && anon != MAP_FAILED && sysv != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0);
    anon[4097] = 'a', sysv[4097] = 's';
    int fds[] = {opened(anon, O_RDONLY), opened(anon, O_RDWR | O_APPEND), opened(sysv, O_RDONLY), opened(sysv, O_RDWR | O_APPEND)};
    for (int n = 0; n < 4; n++)
        CHECK(lseek(fds[n], n % 2 ? 77 : 4097, SEEK_SET) > 0);
    checkpoint_here(1);
    check(anon, fds[0], fds[1], 'a');
    check(sysv, fds[2], fds[3], 's');
    return done();
}

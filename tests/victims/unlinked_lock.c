/*
 * Locks on files without a name: flock(2), POSIX and open-file-description locks (fcntl(2)) of an
 * unlinked file, and flock of a directory, a pipe and a FIFO.
 */
#include "victim.h"
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct flock bytes(short type, off_t start, off_t len)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
}

/*
 * Returns 1 if another process, through a description of its own, gets flock `how` or, if `how` is
 * 0, a POSIX lock of `byte`.
 */
static int others_get(int fd, int how, off_t byte)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char path[64];
        struct flock lock = bytes(F_WRLCK, byte, 1);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, how ? O_RDONLY | O_NONBLOCK : O_RDWR);
        if (own < 0)
            _exit(2);
        int got = how ? flock(own, how | LOCK_NB) : fcntl(own, F_SETLK, &lock);
        _exit(got == 0 ? 0 : errno == EWOULDBLOCK || errno == EACCES ? 1 : 3);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

int main(void)
{
    struct flock posix = bytes(F_WRLCK, 10, 5), ofd = bytes(F_WRLCK, INT64_MAX - 5, 0);
    int fd = open("gone", O_RDWR | O_CREAT, 0600), nameless = open(".", O_RDWR | O_TMPFILE, 0600);
    CHECK(mkdir("away", 0700) == 0);
    int dir = open("away", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && nameless >= 0 && dir >= 0 && unlink("gone") == 0 && rmdir("away") == 0);
    int ends[2];
    CHECK(pipe(ends) == 0 && mkfifo("fifo", 0600) == 0);
    int fifo = open("fifo", O_RDWR);
    CHECK(fifo >= 0 && flock(ends[0], LOCK_EX) == 0 && flock(fifo, LOCK_EX) == 0);
    CHECK(flock(fd, LOCK_EX) == 0 && flock(nameless, LOCK_SH) == 0 && flock(dir, LOCK_EX) == 0);
    CHECK(fcntl(fd, F_SETLK, &posix) == 0 && fcntl(fd, F_OFD_SETLK, &ofd) == 0);

    checkpoint_here(1);

    CHECK(!others_get(fd, LOCK_SH, 0) && !others_get(dir, LOCK_SH, 0));
    CHECK(!others_get(ends[0], LOCK_SH, 0) && !others_get(fifo, LOCK_SH, 0));
    CHECK(flock(ends[0], LOCK_UN) == 0 && others_get(ends[0], LOCK_EX, 0));
    CHECK(flock(fifo, LOCK_UN) == 0 && others_get(fifo, LOCK_EX, 0));
    CHECK(others_get(nameless, LOCK_SH, 0) && !others_get(nameless, LOCK_EX, 0));
    CHECK(!others_get(fd, 0, 10) && !others_get(fd, 0, 14) && others_get(fd, 0, 15) && !others_get(fd, 0, INT64_MAX - 1));
    CHECK(flock(fd, LOCK_UN) == 0 && others_get(fd, LOCK_EX, 0));
    posix.l_type = ofd.l_type = F_UNLCK;
    CHECK(fcntl(fd, F_SETLK, &posix) == 0 && others_get(fd, 0, 10));
    CHECK(fcntl(fd, F_OFD_SETLK, &ofd) == 0 && others_get(fd, 0, INT64_MAX - 1));
    CHECK(flock(dir, LOCK_UN) == 0 && others_get(dir, LOCK_EX, 0));
    return done();
}

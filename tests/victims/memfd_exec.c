/*
 * A memfd is a program: one is executing, one can be executed. The kernel refuses to execute a file
 * that was opened for writing (ETXTBSY), but memfd_create(2) opens none.
 */
#include "victim.h"
#include <sys/wait.h>

extern char **environ;

/* Executes what `fd` holds, in a child. Its exit status, or -errno. */
static int executed(int fd)
{
    pid_t child = fork();
    if (child == 0) {
        fexecve(fd, (char *[]){"memfd", "ends", NULL}, environ);
        _exit(errno);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int copy_of_self(const char *name)
{
    size_t len;
    char *own = slurp("/proc/self/exe", &len);
    int fd = memfd_create(name, 0);
    CHECK(fd >= 0 && write(fd, own, len) == (ssize_t)len);
    return fd;
}

int main(int argc, char **argv)
{
    char path[64], link[64] = "";
    if (argc == 1) {
        fexecve(copy_of_self("executing"), (char *[]){"memfd", "goes on", NULL}, environ);
        return 1;
    }
    if (strcmp(argv[1], "ends") == 0)
        return 42;
    int fd = copy_of_self("program"), reader, busy = copy_of_self("opened for writing"), writer;
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && lseek(fd, 77, SEEK_SET) == 77 && fcntl(fd, F_SETFL, O_APPEND) == 0);
    char *mapped = mmap(NULL, st.st_size, RW, MAP_SHARED, fd, 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(mapped != MAP_FAILED && (reader = open(path, O_RDONLY)) >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", busy);
    CHECK((writer = open(path, O_RDWR)) >= 0);
    CHECK_EQ(executed(fd), 42);

    checkpoint_here(1);

    CHECK_EQ(executed(fd), 42);
    CHECK_EQ(executed(reader), 42);
    CHECK_EQ(executed(busy), ETXTBSY);
    CHECK(close(writer) == 0);
    CHECK_EQ(executed(busy), 42);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 77);
    CHECK((fcntl(fd, F_GETFL) & O_APPEND) && memcmp(mapped, "\177ELF", 4) == 0);
    CHECK(readlink("/proc/self/exe", link, sizeof link) > 0 && strcmp(link, "/memfd:executing (deleted)") == 0);
    return done();
}

/*
 * The executable was replaced and a mapped library removed, as in a package upgrade. The process
 * continues with the old files.
 */
#include "victim.h"

static int untouched_data = 4711; /* a page of the file until the first write */

int main(int argc, char **argv)
{
    char path[512], library[64] = "library", text[512];
    size_t len;
    char *own = slurp("/proc/self/exe", &len);
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(argc == 1 && n > 0 && (path[n] = 0, chmod(path, 0751) == 0));
    int fd = open(library, O_RDWR | O_CREAT, 0755);
    CHECK(write(fd, own, len) == (ssize_t)len && close(fd) == 0 && (fd = open(library, O_RDONLY)) >= 0);
    char *code = mmap(NULL, len, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(code != MAP_FAILED && close(fd) == 0 && unlink(library) == 0);
    /* As dpkg(1) and install(1) do: a new file is renamed over the old one. */
    fd = open("new", O_RDWR | O_CREAT, 0755);
    CHECK(write(fd, "#!/bin/false\n", 13) == 13 && close(fd) == 0 && rename("new", path) == 0);

    checkpoint_here(1);

    struct stat st;
    size_t again;
    CHECK(untouched_data == 4711 && memcmp(code, own, len) == 0);
    CHECK((n = readlink("/proc/self/exe", text, sizeof text - 1)) > 0 && (text[n] = 0, strstr(text, " (deleted)")));
    CHECK(stat("/proc/self/exe", &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0751);
    char *now = slurp("/proc/self/exe", &again);
    CHECK(again == len && memcmp(now, own, len) == 0 && stat(path, &st) == 0 && st.st_size == 13);
    /* A file that is being executed cannot be opened for writing. */
    CHECK(open("/proc/self/exe", O_WRONLY) < 0 && errno == ETXTBSY);
    return argv[1] ? 1 : done();
}

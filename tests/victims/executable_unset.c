/*
 * Nobody may execute the file of the program any more. With an argument its name is gone too.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    char path[512], link[600];
    struct stat before, after;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(n > 0 && (path[n] = 0, chmod(path, 0640) == 0) && (argc == 1 || unlink(path) == 0));
    CHECK(stat("/proc/self/exe", &before) == 0);
    checkpoint_here(1);
    CHECK(stat("/proc/self/exe", &after) == 0 && after.st_nlink == before.st_nlink && after.st_size == before.st_size);
    CHECK_EQ(after.st_mode & 07777, 0640);
    CHECK(argc != 1 || after.st_ino == before.st_ino);
    CHECK((n = readlink("/proc/self/exe", link, sizeof link - 1)) > 0 && (link[n] = 0, strncmp(link, path, strlen(path)) == 0));
    CHECK(open("/proc/self/exe", O_WRONLY) < 0 && errno == ETXTBSY);
    return argv[0] ? done() : 1;
}

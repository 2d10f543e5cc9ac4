/*
 * A lower file of an overlay that is mapped and then changed, so that the overlay copies it up. The
 * mapping still shows the old file, in pages that the process has read, changed or never touched.
 * overlay_copied DIR WHAT: DIR is an overlay with the lower file "lib", three pages of a, b and c,
 * and "tail". WHAT is private, shared (the mapping), shorter, equal, shared_equal (the copy).
 */
#include "victim.h"

int main(int argc, char **argv)
{
    char here[512], text[8] = "";
    CHECK(argc == 3 && getcwd(here, sizeof here) && (go_dir = here) && chdir(argv[1]) == 0);
    const char *what = argv[2];
    int shared = strncmp(what, "shared", 6) == 0, equal = strstr(what, "equal") != NULL;
    int fd = open("lib", O_RDONLY), prot = shared ? PROT_READ : RW;
    char *lib = mmap(NULL, 6 * 4096, prot, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    char *part = mmap(NULL, 4096, PROT_READ | PROT_EXEC, shared ? MAP_SHARED : MAP_PRIVATE, fd, 2 * 4096);
    CHECK(fd >= 0 && lib != MAP_FAILED && part != MAP_FAILED && close(fd) == 0);
    CHECK_EQ(*(volatile char *)lib, 'a');
    if (!shared)
        lib[4096] = '!';
    CHECK((fd = open("lib", O_RDWR)) >= 0 && fchmod(fd, 0640) == 0);
    if (!equal)
        CHECK(pwrite(fd, "new", 3, 0) == 3 && pwrite(fd, "new", 3, 4096) == 3 && pwrite(fd, "new", 3, 2 * 4096) == 3);
    if (strcmp(what, "shorter") == 0)
        CHECK(ftruncate(fd, 4096) == 0);
    CHECK(close(fd) == 0);
    CHECK_EQ(*(volatile char *)lib, 'a'); /* not a page of the file that the name leads to */

    checkpoint_here(1);

    CHECK(lib[0] == 'a' && lib[4095] == 'a' && lib[4097] == 'b' && lib[2 * 4096] == 'c' && part[0] == 'c');
    CHECK(part[4095] == 'c' && memcmp(lib + 3 * 4096, "tail\0", 6) == 0);
    CHECK_EQ(lib[4096], shared ? 'b' : '!');
    CHECK((fd = open("lib", O_RDONLY)) >= 0 && read(fd, text, 3) == 3);
    CHECK(memcmp(text, equal ? "aaa" : "new", 3) == 0);
    return done();
}

/*
 * Lower files of an overlay that are removed or replaced while open and mapped. The old contents
 * stay, and the names keep their current state.
 * overlay_removed DIR: DIR is an overlay with the lower files "tool", "lib" and "data". With the
 * argument "elsewhere", holds an unlinked file that still has another name in a subdirectory.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    char here[512], text[64] = "", name[512] = "";
    CHECK(argc >= 2 && getcwd(here, sizeof here) && (go_dir = here) && chdir(argv[1]) == 0);
    if (argc == 3) {
        CHECK(mkdir("dir", 0700) == 0 && open("mine", O_RDWR | O_CREAT, 0600) == 3);
        CHECK(link("mine", "dir/other") == 0 && unlink("mine") == 0);
        checkpoint_here(1);
        return done();
    }
    int tool = open("tool", O_RDONLY), lib = open("lib", O_RDONLY), data = open("data", O_RDONLY);
    CHECK(tool == 3 && lib >= 0 && data >= 0 && lseek(tool, 4, SEEK_SET) == 4);
    char *code = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, lib, 0), *table = mmap(NULL, 4096, PROT_READ, MAP_SHARED, data, 0);
    CHECK(code != MAP_FAILED && table != MAP_FAILED && close(lib) == 0);
    int next = open("lib.new", O_RDWR | O_CREAT, 0644);
    CHECK(write(next, "newer", 5) == 5 && close(next) == 0 && rename("lib.new", "lib") == 0);
    CHECK(unlink("tool") == 0 && unlink("data") == 0);

    checkpoint_here(1);

    struct stat st;
    CHECK(read(tool, text, 60) == 4 && memcmp(text, "tool", 4) == 0 && pread(tool, text, 8, 0) == 8 && memcmp(text, "old tool", 8) == 0);
    CHECK(memcmp(code, "old lib", 7) == 0 && memcmp(table, "old data", 8) == 0 && pread(data, text, 8, 0) == 8);
    CHECK(readlink("/proc/self/fd/3", name, sizeof name) > 0 && strstr(name, "/tool (deleted)"));
    CHECK(access("tool", F_OK) == -1 && access("data", F_OK) == -1 && fstat(tool, &st) == 0 && st.st_size == 8);
    CHECK((lib = open("lib", O_RDONLY)) >= 0 && read(lib, text, 5) == 5 && memcmp(text, "newer", 5) == 0);
    return done();
}

/*
 * A program, mapped files and the working directory keep names that are not text: bytes that are
 * not UTF-8, a character that the kernel cut in two, a newline, and text that looks like an escaped
 * newline. /proc shows the same names afterwards, byte for byte.
 */
#include "victim.h"

/* 16 bytes: the kernel keeps only the first half of the last character. */
#define PROGRAM "aaaaaaaaaaaaaa\xc3\xbc"

static const char *const names[] = {"\xff\xfe", "new\nline", "back\\012slash", " spaces "};
#define NAMES (sizeof names / sizeof *names)

static char dir[1 << 12], before[1 << 16], after[1 << 16];

/*
 * The lines of /proc/self/maps that name something in this victim's directory. No other process
 * maps files there.
 */
static void look(char *into, size_t room)
{
    char line[1 << 13];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    size_t len = 0;
    while (fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, dir) != NULL) {
            CHECK(len + strlen(line) < room);
            strcpy(into + len, line);
            len += strlen(line);
        }
    fclose(maps);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (strcmp(argv[0], PROGRAM) != 0) {
        CHECK(link("odd_names", PROGRAM) == 0);
        execl("./" PROGRAM, PROGRAM, "\xff", (char *)NULL);
        CHECK(!"the program runs under its other name");
    }
    CHECK(getcwd(dir, sizeof dir) != NULL);
    const char *mapped[NAMES];
    for (size_t n = 0; n < NAMES; n++) {
        int fd = open(names[n], O_RDWR | O_CREAT | O_EXCL, 0600);
        CHECK(fd >= 0 && write(fd, names[n], strlen(names[n]) + 1) > 0);
        mapped[n] = mmap(NULL, 4096, PROT_READ, n % 2 ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        CHECK(mapped[n] != MAP_FAILED && close(fd) == 0);
    }
    CHECK(mkdir("\xfe", 0700) == 0 && chdir("\xfe") == 0);
    go_dir = "..";
    look(before, sizeof before);
    CHECK(strstr(before, "/\xff\xfe\n") && strstr(before, "/new\\012line\n") && strstr(before, "/back\\012slash\n"));
    checkpoint_here(1);
    for (size_t n = 0; n < NAMES; n++)
        CHECK(strcmp(mapped[n], names[n]) == 0);
    look(after, sizeof after);
    CHECK(strcmp(before, after) == 0);
    char comm[16], path[1 << 12] = "";
    CHECK(prctl(PR_GET_NAME, comm) == 0 && strncmp(comm, PROGRAM, 15) == 0);
    CHECK(readlink("/proc/self/exe", path, sizeof path - 1) > 0 && strcmp(strrchr(path, '/') + 1, PROGRAM) == 0);
    CHECK(getcwd(path, sizeof path) != NULL && strcmp(strrchr(path, '/') + 1, "\xfe") == 0);
    return done();
}

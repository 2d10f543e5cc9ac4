/* secret DIR: an unlinked file of another filesystem, which the test takes away in the meantime. */
#include "victim.h"

int main(int argc, char **argv)
{
    char here[512], text[8] = "";
    CHECK(argc == 2 && getcwd(here, sizeof here) && (go_dir = here));
    CHECK((mkdir(argv[1], 0700) == 0 || errno == EEXIST) && chdir(argv[1]) == 0);
    int fd = open("secret", O_RDWR | O_CREAT, 0600);
    CHECK(fd == 3 && write(fd, "secret", 6) == 6 && unlink("secret") == 0 && chdir(here) == 0);
    checkpoint_here(1);
    CHECK(pread(fd, text, 8, 0) == 6 && strcmp(text, "secret") == 0 && pwrite(fd, "!", 1, 6) == 1);
    return done();
}

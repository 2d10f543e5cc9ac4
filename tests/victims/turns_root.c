/*
 * A process of user "nobody" that executes a set-user-ID program of root, as sudo(8) is: the file
 * "suid" in its directory, which is this program. It does so at go.1: "once", or "often". In the
 * second case the program turns back into one of "nobody", the file "plain", and begins again.
 */
#include "victim.h"

enum { NOBODY = 65534 };

static char secret[4096] = "the secret of ";

int main(int argc, char **argv)
{
    (void)argc;
    if (geteuid() == 0) {
        /* Only in the memory of root's process. */
        strcat(secret, "root's process");
        if (strcmp(argv[1], "often") != 0) {
            /* Before this its owner may still send signals to it (kill(2)). */
            CHECK(setresuid(0, 0, 0) == 0);
            dprintf(1, "ready 2\n");
            for (;;)
                pause_briefly();
        }
        pause_briefly();
        CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
        execl("plain", "plain", "often", NULL);
    }
    if (strstr(argv[0], "turns_root"))
        checkpoint_here(1);
    pause_briefly();
    execl("suid", "suid", argv[1], NULL);
    CHECK(!"executed");
}

/*
 * fork_all COUNT [NPROC]: lives at its limit of tasks. Until "go.1" appears it makes COUNT children
 * that are alive at the same time, again and again. None of these forks may fail. NPROC becomes its
 * RLIMIT_NPROC. The file "count" holds the number of turns.
 */
#include "victim.h"
#include <sys/resource.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    int count = atoi(argv[1]), fd = open("count", O_RDWR | O_CREAT | O_TRUNC, 0644);
    pid_t pids[16];
    char text[32];
    CHECK(count <= 16 && fd >= 0);
    if (argc > 2) {
        struct rlimit limit = {atoi(argv[2]), atoi(argv[2])};
        CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
    }
    dprintf(1, "ready 1\n");
    for (long turn = 0; access("go.1", F_OK) != 0; turn++) {
        snprintf(text, sizeof text, "%15ld", turn);
        CHECK(pwrite(fd, text, 15, 0) == 15);
        for (int n = 0; n < count; n++) {
            CHECK((pids[n] = fork()) >= 0);
            if (pids[n] == 0)
                for (;;)
                    pause();
        }
        pause_briefly();
        for (int n = 0; n < count; n++) {
            CHECK(kill(pids[n], SIGKILL) == 0);
            CHECK(waitpid(pids[n], NULL, 0) == pids[n]);
        }
    }
    return done();
}

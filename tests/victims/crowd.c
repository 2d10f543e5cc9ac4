/*
 * crowd COUNT: makes COUNT children, each with a page of its own. At the end all children exist,
 * and each exits with its own number.
 */
#include "victim.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
    int count = atoi(argv[1]);
    pid_t *pids = calloc(count, sizeof *pids);
    CHECK(argc == 2 && count > 0 && pids);
    char *page = map(4096, RW);
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    for (int n = 0; n < count; n++) {
        CHECK((pids[n] = fork()) >= 0);
        if (pids[n] == 0) {
            int got;
            sprintf(page, "%d", n);
            CHECK(sigwait(&term, &got) == 0);
            _exit(atoi(page) == n ? n % 251 : 255);
        }
    }
    checkpoint_here(1);
    for (int n = 0; n < count; n++) {
        int status;
        CHECK(kill(pids[n], SIGTERM) == 0);
        CHECK(waitpid(pids[n], &status, 0) == pids[n]);
        CHECK_EQ(status, (n % 251) << 8);
    }
    return done();
}

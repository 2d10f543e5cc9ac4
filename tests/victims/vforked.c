/*
 * The parent sleeps uninterruptibly in vfork(2) until its child, which speaks the protocol, ends.
 */
#include "victim.h"
#include <sys/wait.h>

int main(void)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        checkpoint_here(1);
        _exit(7);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return done();
}

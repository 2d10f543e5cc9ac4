/*
 * Pipes between processes: data in transit in both directions, each end in another process, and end
 * of file when the last writer ends.
 */
#include "victim.h"
#include <sys/ioctl.h>
#include <sys/wait.h>

int main(void)
{
    int down[2], up[2], shared[2];
    char text[64];
    CHECK(pipe(down) == 0 && pipe(up) == 0 && pipe(shared) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        CHECK(write(up[1], "first ", 6) == 6);
        for (ssize_t n; (n = read(down[0], text, sizeof text)) != 0;)
            CHECK(n > 0 && write(up[1], text, n) == n);
        _exit(3);
    }
    close(down[0]);
    close(up[1]);
    int status, flags = fcntl(shared[1], F_GETFL);
    for (int waiting = 0; waiting != 6; pause_briefly())
        CHECK(ioctl(up[0], FIONREAD, &waiting) == 0);
    CHECK(write(shared[1], "kept", 4) == 4);
    checkpoint_here(1);
    CHECK(write(down[1], "second", 6) == 6);
    for (int got = 0; got < 12;) {
        ssize_t n = read(up[0], text + got, sizeof text - got);
        CHECK(n > 0);
        got += n;
    }
    CHECK(memcmp(text, "first second", 12) == 0);
    CHECK(fcntl(shared[1], F_GETFL) == flags && fcntl(shared[1], F_SETFL, O_NONBLOCK) == 0);
    close(down[1]);
    CHECK_EQ(read(up[0], text, sizeof text), 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    CHECK(read(shared[0], text, sizeof text) == 4 && memcmp(text, "kept", 4) == 0);
    return done();
}

/* The audit system's user of a login, which each thread has of its own: /proc/PID/loginuid. */
#include "victim.h"

static volatile int go_on;

static void set(const char *text)
{
    int fd = open("/proc/thread-self/loginuid", O_WRONLY);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static const char *seen(void)
{
    return proc_line("/proc/thread-self/loginuid", "");
}

static void *other(void *unused)
{
    set("4711");
    for (go_on = 1; go_on != 2;)
        pause_briefly();
    CHECK(strcmp(seen(), "4711") == 0);
    return unused;
}

int main(void)
{
    if (access("/proc/self/loginuid", F_OK) != 0) /* some kernels are built without audit */
        checkpoint_here(1), exit(done());
    pthread_t thread = start(other, NULL);
    while (!go_on)
        pause_briefly();
    set("12");
    checkpoint_here(1);
    CHECK(strcmp(seen(), "12") == 0);
    go_on = 2;
    join(thread);
    return done();
}

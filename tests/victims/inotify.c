/*
 * inotify(7): watches of directories and files with their numbers and masks, one that is removed
 * after its first event, of a file that is renamed afterwards, and a thread that waits in read.
 * Nothing is seen but what the victim does itself.
 */
#include "victim.h"
#include <sys/inotify.h>

static int waited;
static volatile pid_t waiter;

static void touch(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
}

static char *watches_of(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    char *text = slurp(path, NULL), *at = strstr(text, "inotify");
    return at ? at : text + strlen(text);
}

/* The next event: its watch, its bits and its name. */
static void next(int fd, int watch, uint32_t mask, const char *name)
{
    static char buffer[4096] __attribute__((aligned(8)));
    static ssize_t len, at;
    if (at >= len) {
        len = read(fd, buffer, sizeof buffer);
        at = 0;
        CHECK(len > 0);
    }
    struct inotify_event *event = (void *)(buffer + at);
    at += sizeof *event + event->len;
    CHECK_EQ(event->wd, watch);
    CHECK_EQ(event->mask, mask);
    CHECK(strcmp(event->len ? event->name : "", name) == 0);
}

static void *waits(void *unused)
{
    struct inotify_event event;
    waiter = gettid();
    CHECK(read(waited, &event, sizeof event) == sizeof event && event.mask == IN_ATTRIB);
    return unused;
}

int main(void)
{
    char byte;
    CHECK(mkdir("dir", 0700) == 0 && mkdir("all", 0700) == 0 && symlink("dir", "link") == 0);
    touch("once"), touch("moved"), touch("awaited");
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), all = inotify_init1(IN_NONBLOCK);
    waited = inotify_init();
    /* Numbers with gaps. */
    for (int n = 1; n <= 5; n++)
        CHECK(inotify_add_watch(fd, "all", IN_CREATE) == n && inotify_rm_watch(fd, n) == 0);
    int dir = inotify_add_watch(fd, "dir", IN_CREATE | IN_DELETE | IN_EXCL_UNLINK);
    int once = inotify_add_watch(fd, "once", IN_CLOSE_WRITE | IN_ONESHOT);
    int moved = inotify_add_watch(fd, "moved", IN_MODIFY | IN_MOVE_SELF);
    int link = inotify_add_watch(fd, "link", IN_DELETE_SELF | IN_ATTRIB | IN_DONT_FOLLOW);
    CHECK(dir == 6 && once == 7 && moved == 8 && link == 9);
    char events[4096];
    CHECK(read(fd, events, sizeof events) == 5 * sizeof(struct inotify_event));
    CHECK(rename("moved", "there") == 0);
    next(fd, moved, IN_MOVE_SELF, "");
    CHECK(inotify_add_watch(waited, "awaited", IN_ATTRIB) == 1 && inotify_add_watch(all, "all", IN_ALL_EVENTS) == 1);
    pthread_t thread = start(waits, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_read);
    char *before = watches_of(fd);

    checkpoint_here(1);

    CHECK(strcmp(before, watches_of(fd)) == 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFL) == O_NONBLOCK);
    CHECK(read(fd, &byte, 1) == -1 && errno == EAGAIN && read(all, events, sizeof events) == -1 && errno == EAGAIN);
    touch("dir/file"), touch("once"), touch("once"), touch("there");
    next(fd, dir, IN_CREATE, "file");
    next(fd, once, IN_CLOSE_WRITE, "");
    next(fd, once, IN_IGNORED, "");
    next(fd, moved, IN_MODIFY, "");
    CHECK(unlink("link") == 0);
    next(fd, link, IN_ATTRIB, "");
    next(fd, link, IN_DELETE_SELF, "");
    next(fd, link, IN_IGNORED, "");
    CHECK(inotify_add_watch(fd, "dir", IN_DELETE) == dir && inotify_add_watch(fd, "all", IN_OPEN) == 10);
    CHECK(unlink("dir/file") == 0);
    next(fd, dir, IN_DELETE, "file");
    CHECK(inotify_rm_watch(fd, dir) == 0);
    next(fd, dir, IN_IGNORED, "");
    wait_blocked(waiter, SYS_read);
    CHECK(chmod("awaited", 0400) == 0);
    join(thread);
    return done();
}

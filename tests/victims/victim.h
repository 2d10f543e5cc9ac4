/*
 * The protocol of the victims (harness/victim.rs is the other end): make an object,
 * checkpoint_here(n), check it again. Each victim shows one behaviour. Its descriptors are 0
 * (/dev/null), 1 and 2 (the file "out"). Its working directory belongs to it alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Ends the victim when `cond` does not hold. */
#define CHECK(cond)                                                                                                 \
    do {                                                                                                            \
        if (!(cond)) {                                                                                              \
            dprintf(1, "FAIL %s:%d %s (errno %d: %s)\n", __FILE__, __LINE__, #cond, errno, strerror(errno));        \
            _exit(1);                                                                                               \
        }                                                                                                           \
    } while (0)

/* CHECK that two numbers are equal, and print them if not. */
#define CHECK_EQ(left, right)                                                                                       \
    do {                                                                                                            \
        long long l_ = (long long)(left), r_ = (long long)(right);                                                  \
        if (l_ != r_) {                                                                                             \
            dprintf(1, "FAIL %s:%d %s = %#llx, %s = %#llx\n", __FILE__, __LINE__, #left, l_, #right, r_);           \
            _exit(1);                                                                                               \
        }                                                                                                           \
    } while (0)

/* The directory in which "go.N" appears, relative to the victim's working directory. */
static const char *go_dir __attribute__((unused)) = ".";

static inline void pause_briefly(void)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
}

/*
 * Prints "ready N" and waits for "go.N". The process may be checkpointed at any point of this loop.
 */
static inline void checkpoint_here(int n)
{
    char path[64];
    snprintf(path, sizeof path, "%s/go.%d", go_dir, n);
    dprintf(1, "ready %d\n", n);
    while (access(path, F_OK) != 0)
        pause_briefly();
}

static inline int done(void)
{
    return write(1, "ok\n", 3) == 3 ? 0 : 1;
}

/* Seconds of CLOCK_MONOTONIC. */
static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Waits until thread `tid` is blocked in system call `number`. */
static inline void wait_blocked(pid_t tid, long number)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        if (n > 0 && text[0] != 'r' && strtol(text, NULL, 10) == number)
            return;
        pause_briefly();
    }
}

static inline pthread_t start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, arg) == 0);
    return thread;
}

static inline void *join(pthread_t thread)
{
    void *result;
    CHECK(pthread_join(thread, &result) == 0);
    return result;
}

/*
 * Reads a whole small file into a string that the caller frees. Embedded NULs are kept. `len` may
 * be NULL.
 */
static inline char *slurp(const char *path, size_t *len)
{
    size_t used = 0, room = 1 << 20;
    char *text = malloc(room);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && text);
    for (ssize_t n; (n = read(fd, text + used, room - used - 1)) > 0;)
        used += n;
    close(fd);
    text[used] = 0;
    if (len)
        *len = used;
    return text;
}

/* A line of a /proc file: the text after "KEY" up to the end of the line, in a static buffer. */
static inline const char *proc_line(const char *path, const char *key)
{
    static char value[512];
    char *text = slurp(path, NULL), *at = text;
    value[0] = 0;
    for (; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, key, strlen(key)) == 0) {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
            break;
        }
    free(text);
    return value;
}

/* For another thread: waits until the main thread has ended and is a zombie leader. */
static inline void await_leader_end(void)
{
    for (char state = 'R'; state != 'Z'; pause_briefly()) {
        char *text = slurp("/proc/self/stat", NULL);
        state = strrchr(text, ')')[2];
        free(text);
    }
}

/* Anonymous private memory. */
static inline char *map(size_t len, int prot)
{
    char *at = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

#define RW (PROT_READ | PROT_WRITE)

/*
 * Many of one kind (first argument): files, eventfds, locks, threads, processes or mappings. The
 * second argument says how many.
 */
#include "victim.h"
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { FIRST = 10, PAGE = 4096 };

static int count;
static char *pages;
static pid_t *children;

static void *sleeps(void *none)
{
    for (;;)
        pause();
    return none;
}

/* Half as many record locks as duplicates of one description. */
static void lock(void)
{
    int fd = open("locked", O_RDWR | O_CREAT, 0600);
    for (int n = 0; n < count; n++) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * n, .l_len = 1};
        CHECK(n % 2 || fcntl(fd, F_SETLK, &range) == 0);
        CHECK_EQ(dup2(fd, FIRST + n), FIRST + n);
    }
}

static void make(const char *kind, int n)
{
    int fd;
    pthread_t thread;
    switch (kind[0]) {
    case 'f':
        fd = open("file", O_RDWR | O_CREAT, 0600);
        CHECK(dup2(fd, FIRST + n) == FIRST + n && close(fd) == 0 && lseek(FIRST + n, n, SEEK_SET) == n);
        break;
    case 'e':
        fd = eventfd(n, EFD_NONBLOCK);
        CHECK(dup2(fd, FIRST + n) == FIRST + n && close(fd) == 0);
        break;
    case 't':
        CHECK(pthread_create(&thread, NULL, sleeps, NULL) == 0);
        break;
    case 'p':
        children[n] = fork();
        CHECK(children[n] >= 0);
        if (children[n] == 0)
            sleeps(NULL);
        break;
    case 'm':
        pages[2 * n * PAGE] = (char)n;
        CHECK(mprotect(pages + (2 * n + 1) * PAGE, PAGE, PROT_NONE) == 0);
        break;
    }
}

static void look(const char *kind, int n)
{
    uint64_t value = 0;
    struct flock range = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 2 * n, .l_len = 1};
    switch (kind[0]) {
    case 'f':
        CHECK_EQ(lseek(FIRST + n, 0, SEEK_CUR), n);
        break;
    case 'e':
        CHECK(n == 0 || (read(FIRST + n, &value, 8) == 8 && value == (uint64_t)n));
        CHECK(write(FIRST + n, &(uint64_t){n}, 8) == 8);
        break;
    case 'l':
        CHECK_EQ(fcntl(FIRST + n, F_SETLK, &range), 0);
        range.l_type = F_WRLCK;
        CHECK(n % 2 || fcntl(FIRST + n, F_SETLK, &range) == 0);
        break;
    case 'p':
        CHECK(kill(children[n], SIGKILL) == 0 && waitpid(children[n], NULL, 0) == children[n]);
        break;
    case 'm':
        CHECK(pages[2 * n * PAGE] == (char)n);
        break;
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const char *kind = argv[1];
    count = atoi(argv[2]);
    struct rlimit files = {FIRST + count + 10, FIRST + count + 10};
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0 || kind[0] == 't' || kind[0] == 'p' || kind[0] == 'm');
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    pages = mmap(NULL, (2L * count + 1) * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    children = calloc(count, sizeof *children);
    CHECK(pages != MAP_FAILED && children);
    if (kind[0] == 'l')
        lock();
    for (int n = 0; n < count; n++)
        make(kind, n);
    checkpoint_here(1);
    for (int n = 0; n < count; n++)
        look(kind, n);
    return done();
}

/*
 * The subject of the benchmark (bench/). heap MEBIBYTES FORKS STOPS writes to its own memory and
 * prints these times, in nanoseconds of CLOCK_MONOTONIC, on lines of `out`:
 *   touch T            the first touch of all pages;
 *   fork T             a bare fork(2), FORKS times;
 *   gap FROM LENGTH    the time that a spinning thread lost between two readings of the clock,
 *     after each of "ready 1" ... "ready STOPS".
 * It writes to every page before each fork and each of these checkpoints, so that all of them find
 * the same page tables. At the last checkpoint, "ready STOPS + 1", no thread spins.
 */
#include "victim.h"
#include <sys/wait.h>

#define LEAST 20000 /* ns: shorter gaps are the cost of reading the clock */
#define MOST 4096

static struct {
    uint64_t from, length;
} gaps[MOST];
static int count, spinning;

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ul + t.tv_nsec;
}

static void *spin(void *arg)
{
    for (uint64_t before = clock_ns(), now; __atomic_load_n(&spinning, __ATOMIC_RELAXED); before = now) {
        now = clock_ns();
        if (now - before > LEAST && count < MOST) {
            gaps[count].from = before;
            gaps[count++].length = now - before;
        }
    }
    return arg;
}

static char *memory;
static size_t size;

static void dirty(uint64_t turn)
{
    for (size_t at = 0; at < size; at += 4096)
        *(volatile uint64_t *)(memory + at) = at + turn;
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    size = strtoul(argv[1], NULL, 10) << 20;
    int forks = atoi(argv[2]), stops = atoi(argv[3]);
    memory = map(size, RW);
    uint64_t begun = clock_ns();
    dirty(0);
    dprintf(1, "touch %lu\n", clock_ns() - begun);
    for (int n = 0; n < forks; n++) {
        dirty(n);
        begun = clock_ns();
        pid_t child = fork();
        uint64_t ended = clock_ns();
        if (child == 0)
            _exit(0);
        CHECK(child > 0 && waitpid(child, NULL, 0) == child);
        dprintf(1, "fork %lu\n", ended - begun);
    }
    for (int n = 1; n <= stops; n++) {
        dirty(n);
        spinning = 1;
        count = 0;
        pthread_t thread = start(spin, NULL);
        checkpoint_here(n);
        __atomic_store_n(&spinning, 0, __ATOMIC_RELAXED);
        join(thread);
        for (int at = 0; at < count; at++)
            dprintf(1, "gap %lu %lu\n", gaps[at].from, gaps[at].length);
        dprintf(1, "told %d\n", n);
    }
    dirty(stops);
    checkpoint_here(stops + 1);
    for (size_t at = 0; at < size; at += 4096)
        CHECK_EQ(*(volatile uint64_t *)(memory + at), at + stops);
    return done();
}

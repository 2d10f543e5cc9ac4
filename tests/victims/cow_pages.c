/*
 * 64 MiB written by the parent, and five children that each wrote one page of it. Contents are
 * right, and all processes still share one copy of the other pages.
 */
#include "tree.h"

enum { PAGE = 4096, SIZE = 64 << 20, PAGES = SIZE / PAGE, CHILDREN = 5 };

static char *memory;

static uint64_t pattern(long page)
{
    return (page + 1) * 0x9E3779B97F4A7C15ull;
}

/*
 * The first and last word of every page hold its pattern. Only the page `own` of the caller starts
 * with `value`.
 */
static void check_memory(long own, uint64_t value)
{
    for (long n = 0; n < PAGES; n++) {
        uint64_t *page = (uint64_t *)(memory + n * PAGE);
        CHECK(page[0] == (n == own ? value : pattern(n)) && page[511] == pattern(n) && page[7] == 0);
    }
}

static void child(int place)
{
    *(uint64_t *)(memory + place * 1000l * PAGE) = place;
    over_checkpoint(place);
    check_memory(place * 1000, place);
    await_turn(2); /* the root measures while all children are alive */
    _exit(place);
}

static long private_kib(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    long dirty = atol(proc_line(path, "Private_Dirty:"));
    return dirty + atol(proc_line(path, "Private_Clean:"));
}

int main(void)
{
    pid_t pids[CHILDREN];
    board_make();
    memory = map(SIZE, RW);
    for (long n = 0; n < PAGES; n++) {
        uint64_t *page = (uint64_t *)(memory + n * PAGE);
        page[0] = page[511] = pattern(n);
    }
    for (int n = 0; n < CHILDREN; n++)
        pids[n] = spawn(child, n + 1);
    checkpoint_tree(CHILDREN);
    check_memory(-1, 0);
    long sum = private_kib(getpid());
    for (int n = 0; n < CHILDREN; n++)
        sum += private_kib(pids[n]);
    dprintf(1, "private: %ld KiB\n", sum);
    CHECK(sum < 2 * SIZE / 1024);
    board->turn = 2;
    for (int n = 0; n < CHILDREN; n++)
        reap(pids[n], W_EXITCODE(n + 1, 0));
    return done();
}

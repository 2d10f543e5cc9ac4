/*
 * Inherited memory, of which parent and child each changed, dropped, unmapped, moved or protected
 * parts. Each keeps its own version.
 */
#include "tree.h"

enum { PAGE = 4096, PAGES = 64 };

static char *memory, *moved;

/* First byte of page n, or -1 if nothing is mapped there. */
static int at(int n)
{
    unsigned char resident;
    char *page = memory + n * PAGE;
    if (mincore(page, PAGE, &resident) < 0 && errno == ENOMEM)
        return -1;
    return (unsigned char)*page;
}

static void check_pages(int is_child)
{
    for (int n = 0; n < PAGES; n++) {
        int expected = n + 1;
        if (n == 3)
            expected = is_child ? 103 : 203; /* both wrote */
        else if (n == 5)
            expected = is_child ? 105 : 6; /* the child wrote */
        else if (n == 7)
            expected = is_child ? 8 : 207; /* the parent wrote */
        else if (n >= 10 && n < 14)
            expected = is_child ? 0 : n + 1; /* the child dropped them */
        else if (n >= 20 && n < 24)
            expected = is_child ? -1 : n + 1; /* the child unmapped them */
        else if (n >= 30 && n < 34)
            expected = is_child ? -1 : n + 1; /* the child moved them */
        else if (n >= 40 && n < 44)
            expected = is_child ? n + 1 : -1; /* the parent unmapped them */
        else if (n >= 50 && n < 52)
            expected = is_child ? 51 : n + 1; /* the child mapped new memory and wrote to it */
        CHECK_EQ(at(n), expected);
    }
    if (is_child)
        for (int n = 0; n < 4; n++)
            CHECK_EQ(moved[n * PAGE], 31 + n);
}

static void child(int place)
{
    memory[3 * PAGE] = 103;
    memory[5 * PAGE] = 105;
    CHECK(madvise(memory + 10 * PAGE, 4 * PAGE, MADV_DONTNEED) == 0);
    CHECK(munmap(memory + 20 * PAGE, 4 * PAGE) == 0);
    moved = mremap(memory + 30 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
    CHECK(moved != MAP_FAILED);
    char *anew = mmap(memory + 50 * PAGE, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(anew != MAP_FAILED);
    anew[0] = anew[PAGE] = 51;
    CHECK(mprotect(memory + 60 * PAGE, 2 * PAGE, PROT_READ) == 0);
    over_checkpoint(place);
    check_pages(1);
    char start[32];
    snprintf(start, sizeof start, "%lx-%lx ", (long)memory + 60 * PAGE, (long)memory + 62 * PAGE);
    CHECK(strncmp(proc_line("/proc/self/maps", start), "r--p", 4) == 0);
    CHECK(mprotect(memory + 60 * PAGE, PAGE, RW) == 0);
    memory[60 * PAGE] = memory[62 * PAGE] = 1;
    _exit(place);
}

int main(void)
{
    board_make();
    memory = map(PAGES * PAGE, RW);
    moved = map(4 * PAGE, PROT_NONE);
    for (int n = 0; n < PAGES; n++)
        memory[n * PAGE] = n + 1;
    pid_t pid = spawn(child, 1);
    memory[3 * PAGE] = (char)203;
    memory[7 * PAGE] = (char)207;
    CHECK(munmap(memory + 40 * PAGE, 4 * PAGE) == 0);
    checkpoint_tree(1);
    check_pages(0);
    memory[60 * PAGE]++, memory[60 * PAGE]--; /* still writable in the parent */
    reap(pid, W_EXITCODE(1, 0));
    check_pages(0);
    return done();
}

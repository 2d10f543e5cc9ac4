/*
 * Each process keeps its own name, including an empty name, one of spaces and brackets, and one of
 * maximum length.
 */
#include "tree.h"

static const char *const names[] = {"", " ) (", "fifteen letters", "line\nbreak", "R 1 1 1"};
enum { COUNT = sizeof names / sizeof *names };

static void child(int place)
{
    char name[16];
    CHECK(prctl(PR_SET_NAME, names[place]) == 0);
    over_checkpoint(place);
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, names[place]) == 0);
    _exit(place);
}

int main(void)
{
    pid_t pids[COUNT];
    char before[16], after[16];
    board_make();
    CHECK(prctl(PR_GET_NAME, before) == 0);
    for (int n = 0; n < COUNT; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(COUNT);
    CHECK(prctl(PR_GET_NAME, after) == 0 && strcmp(before, after) == 0);
    for (int n = 0; n < COUNT; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

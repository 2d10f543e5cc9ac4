/*
 * Shared anonymous memory of a parent and its children, with holes. It stays one object, even where
 * a child unmapped, protected or moved a part.
 */
#include "tree.h"

enum { PAGE = 4096, SIZE = 1 << 20 };

static char *memory;

static void child(int place)
{
    char *mine = memory + place * 16 * PAGE;
    snprintf(mine, 64, "by child %d", place);
    if (place == 1)
        CHECK(munmap(memory, PAGE) == 0);
    if (place == 2)
        CHECK(mprotect(memory, 16 * PAGE, PROT_READ) == 0);
    if (place == 3) {
        char *at = map(SIZE, PROT_NONE);
        CHECK(mremap(memory, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at);
        memory = at;
        mine = memory + place * 16 * PAGE;
    }
    over_checkpoint(place);
    CHECK_EQ(atoi(mine + 9), place);
    CHECK(strcmp(memory + 8 * PAGE, "by the root, before") == 0);
    snprintf(mine + PAGE, 64, "again by %d", place);
    await_turn(2);
    CHECK(strcmp(memory + 9 * PAGE, "by the root, after") == 0);
    _exit(place);
}

int main(void)
{
    pid_t pids[4];
    unsigned char resident[SIZE / PAGE];
    board_make();
    memory = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    strcpy(memory + 8 * PAGE, "by the root, before");
    for (int n = 1; n <= 3; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(3);
    CHECK(mincore(memory, SIZE, resident) == 0);
    CHECK((resident[8] & 1) && !(resident[100] & 1) && !(resident[255] & 1));
    for (int n = 1; n <= 3; n++) {
        CHECK_EQ(atoi(memory + n * 16 * PAGE + 9), n);
        while (atoi(memory + n * 16 * PAGE + PAGE + 9) != n)
            nap();
    }
    strcpy(memory + 9 * PAGE, "by the root, after");
    board->turn = 2;
    for (int n = 1; n <= 3; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

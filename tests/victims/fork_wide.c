/* Sixty children of one parent. Each keeps its identity, and wait(2) returns each status once. */
#include "tree.h"

enum { CHILDREN = 60 };

static void child(int place)
{
    int *own = (int *)map(4096, RW);
    *own = place * 1000 + getpid();
    over_checkpoint(place);
    CHECK_EQ(*own, place * 1000 + getpid());
    _exit(place);
}

int main(void)
{
    pid_t pids[CHILDREN];
    board_make();
    for (int n = 0; n < CHILDREN; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(CHILDREN);
    for (int n = 0; n < CHILDREN; n++) {
        int status, place;
        pid_t pid = wait(&status);
        CHECK(pid > 0 && WIFEXITED(status));
        place = WEXITSTATUS(status);
        CHECK(place < CHILDREN && pids[place] == pid);
        pids[place] = 0;
    }
    no_children_left();
    return done();
}

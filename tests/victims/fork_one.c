/*
 * One child with memory of its own. The ids of both, what each has written, and the child's exit
 * status are right.
 */
#include "tree.h"

static int value = 1;

static void child(int place)
{
    value = 3;
    char *own = map(8192, RW);
    strcpy(own + 4096, "the child's");
    over_checkpoint(place);
    CHECK_EQ(value, 3);
    CHECK(strcmp(own + 4096, "the child's") == 0);
    _exit(42);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(child, 0);
    value = 2;
    checkpoint_tree(1);
    CHECK_EQ(value, 2);
    CHECK_EQ(getpgid(pid), getpgrp());
    reap(pid, W_EXITCODE(42, 0));
    no_children_left();
    return done();
}

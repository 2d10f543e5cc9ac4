/*
 * clone(CLONE_VM): another process shares the memory, on a stack of its own. It has its own
 * descriptors, handlers and working directory.
 */
#include "tree.h"

static volatile int from_root, from_child;
static char *volatile mapped;

static int child(void *arg)
{
    int on_the_stack = 17;
    over_checkpoint((int)(long)arg);
    CHECK_EQ(on_the_stack, 17);
    CHECK_EQ(from_root, 1);
    from_child = 2;
    mapped = map(4096, RW);
    strcpy(mapped, "made by the child");
    CHECK(chdir("/") == 0 && close(0) == 0);
    await_turn(2);
    CHECK_EQ(from_root, 2);
    _exit(5);
}

int main(void)
{
    board_make();
    char *stack = map(65536, RW);
    pid_t pid = clone(child, stack + 65536, CLONE_VM | SIGCHLD, (void *)1);
    CHECK(pid > 0);
    from_root = 1;
    checkpoint_tree(1);
    CHECK_EQ(compare(getpid(), pid, SAME_VM, 0, 0), 0);
    CHECK(compare(getpid(), pid, SAME_FILES, 0, 0) > 0 && compare(getpid(), pid, SAME_SIGHAND, 0, 0) > 0);
    while (!mapped || !mapped[0])
        nap();
    CHECK_EQ(from_child, 2);
    CHECK(strcmp(mapped, "made by the child") == 0 && fcntl(0, F_GETFD) == 0);
    from_root = 2;
    board->turn = 2;
    reap(pid, W_EXITCODE(5, 0));
    CHECK(mapped[0] == 'm');
    return done();
}

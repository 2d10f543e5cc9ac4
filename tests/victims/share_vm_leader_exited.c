/*
 * Another process shares the memory, and its first thread has ended, so /proc shows no memory for
 * it. Its second thread keeps using the memory.
 */
#include "tree.h"

static volatile int from_root, from_child;

static int body(void *arg)
{
    await_state(getpid(), 'Z');
    over_checkpoint((int)(long)arg);
    CHECK_EQ(from_root, 1);
    from_child = 2;
    syscall(SYS_exit_group, 5);
    return 0;
}

static int child(void *stack)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    CHECK(clone(body, stack, flags, (void *)1) > 0);
    syscall(SYS_exit, 0);
    return 0;
}

int main(void)
{
    board_make();
    char *stacks = map(2 * 65536, RW);
    pid_t pid = clone(child, stacks + 65536, CLONE_VM | SIGCHLD, stacks + 2 * 65536);
    CHECK(pid > 0);
    from_root = 1;
    checkpoint_tree(1);
    reap(pid, W_EXITCODE(5, 0));
    CHECK_EQ(from_child, 2);
    return done();
}

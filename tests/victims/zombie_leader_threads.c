/*
 * The main thread of a child has ended while another lives: the child looks like a zombie, but is
 * alive.
 */
#include "tree.h"

static void *body(void *arg)
{
    await_state(getpid(), 'Z');
    over_checkpoint(1);
    CHECK(who_is(getpid()).state == 'Z' && gettid() != getpid());
    _exit(9);
}

static void child(int place)
{
    start(body, NULL);
    pthread_exit(NULL);
}

int main(void)
{
    board_make();
    pid_t pid = spawn(child, 1);
    await_arrivals(1);
    CHECK(waitpid(pid, NULL, WNOHANG) == 0);
    checkpoint_tree(1);
    reap(pid, W_EXITCODE(9, 0));
    return done();
}

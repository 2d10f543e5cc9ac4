/* A stopped child with threads: all threads stop, and all continue. */
#include "tree.h"

enum { THREADS = 4 };
static volatile long ticks[THREADS];

static void *body(void *arg)
{
    for (volatile long *mine = arg; board->turn < 2; ++*mine)
        pause_briefly();
    return arg;
}

static void child(int place)
{
    pthread_t threads[THREADS];
    for (int n = 0; n < THREADS; n++)
        threads[n] = start(body, (void *)&ticks[n]);
    arrive(place);
    raise(SIGSTOP);
    check_place(place);
    for (int n = 0; n < THREADS; n++)
        for (long before = ticks[n]; ticks[n] < before + 2;)
            pause_briefly();
    board->word[0] = 1;
    for (int n = 0; n < THREADS; n++)
        join(threads[n]);
    _exit(place);
}

static void check_stopped(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    CHECK_EQ(atoi(proc_line(path, "Threads:")), THREADS + 1);
    CHECK_EQ(who_is(pid).state, 'T');
}

int main(void)
{
    board_make();
    pid_t pid = spawn(child, 3);
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && status == W_STOPCODE(SIGSTOP));
    check_stopped(pid);
    checkpoint_tree(1);
    check_stopped(pid);
    CHECK_EQ(board->word[0], 0);
    CHECK(kill(pid, SIGCONT) == 0);
    while (!board->word[0])
        nap();
    board->turn = 2;
    reap(pid, W_EXITCODE(3, 0));
    return done();
}

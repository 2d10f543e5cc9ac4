/*
 * Stopped children with ended main threads: they look like zombies, but their other threads are
 * stopped. One was stopped by SIGSTOP and the parent has waited for it. One was stopped by SIGTSTP
 * and the parent has not.
 */
#include "tree.h"

static int place;

static void *body(void *arg)
{
    await_state(getpid(), 'Z');
    arrive(place);
    CHECK(kill(getpid(), place ? SIGTSTP : SIGSTOP) == 0);
    await_turn(2);
    CHECK(who_is(getpid()).state == 'Z');
    check_place(place);
    _exit(place);
}

static void *other(void *arg)
{
    while (place >= 0)
        nap();
    return arg;
}

static void child(int number)
{
    place = number;
    CHECK(setpgid(0, 0) == 0);
    start(body, NULL);
    start(other, NULL);
    pthread_exit(NULL);
}

/* Checks the state of every thread, the leader first. */
static void check_states(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    CHECK_EQ(atoi(proc_line(path, "Threads:")), 3);
    CHECK_EQ(who_is(pid).state, 'Z');
    for (pid_t tid = pid + 1, found = 0; found < 2; tid++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
        if (access(path, F_OK) == 0 && ++found)
            while (who_is(tid).state != 'T')
                pause_briefly();
    }
}

int main(void)
{
    pid_t pids[2];
    int status;
    board_make();
    for (int n = 0; n < 2; n++)
        pids[n] = spawn(child, n);
    await_arrivals(2);
    CHECK(waitpid(pids[0], &status, WUNTRACED) == pids[0] && status == W_STOPCODE(SIGSTOP));
    for (int n = 0; n < 2; n++)
        check_states(pids[n]);
    checkpoint_tree(2);
    for (int n = 0; n < 2; n++)
        check_states(pids[n]);
    CHECK_EQ(waitpid(pids[0], &status, WUNTRACED | WNOHANG), 0);
    CHECK(waitpid(pids[1], &status, WUNTRACED | WNOHANG) == pids[1] && status == W_STOPCODE(SIGTSTP));
    for (int n = 0; n < 2; n++)
        CHECK(kill(pids[n], SIGCONT) == 0);
    board->turn = 2;
    for (int n = 0; n < 2; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

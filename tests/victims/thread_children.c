/*
 * A child belongs to the thread that made it. /proc/PID/task/TID/children lists it there, and
 * __WNOTHREAD waits only in that thread.
 */
#include "tree.h"

static volatile pid_t child_of_thread, thread_tid;
static volatile int child_reaped;

static int listed(pid_t tid, pid_t child)
{
    char path[64], name[16];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", tid);
    snprintf(name, sizeof name, "%d ", child);
    char *text = slurp(path, NULL);
    int found = strstr(text, name) != NULL;
    free(text);
    return found;
}

static void child(int place)
{
    over_checkpoint(place);
    _exit(place + 20);
}

static void *body(void *arg)
{
    thread_tid = gettid();
    child_of_thread = spawn(child, 1);
    await_turn(2);
    int status;
    CHECK_EQ(waitpid(-1, &status, __WNOTHREAD), child_of_thread);
    CHECK_EQ(status, W_EXITCODE(21, 0));
    CHECK(waitpid(-1, &status, __WNOTHREAD) < 0 && errno == ECHILD);
    child_reaped = 1;
    return arg;
}

int main(void)
{
    board_make();
    pthread_t thread = start(body, NULL);
    pid_t mine = spawn(child, 2);
    await_arrivals(2);
    CHECK(listed(thread_tid, child_of_thread) && listed(getpid(), mine) && !listed(getpid(), child_of_thread));
    checkpoint_tree(2);
    await_state(mine, 'Z');
    await_state(child_of_thread, 'Z');
    CHECK(listed(thread_tid, child_of_thread) && listed(getpid(), mine));
    CHECK(!listed(getpid(), child_of_thread) && !listed(thread_tid, mine));
    int status;
    CHECK_EQ(waitpid(-1, &status, __WNOTHREAD), mine);
    CHECK_EQ(status, W_EXITCODE(22, 0));
    CHECK(waitpid(-1, &status, __WNOTHREAD) < 0 && errno == ECHILD && !child_reaped);
    board->turn = 2;
    join(thread);
    return done();
}

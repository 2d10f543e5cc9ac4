/*
 * Children stopped by each of the four stop signals. For half of them, the parent has already read
 * the stop by waitpid(2). SIGCONT continues them.
 */
#include "tree.h"

enum { COUNT = 8 };
static const int number[4] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};

static void child(int place)
{
    CHECK(setpgid(0, 0) == 0); /* the group of the root is orphaned: only SIGSTOP stops it */
    arrive(place);
    raise(number[place % 4]);
    await_turn(2);
    check_place(place);
    _exit(place);
}

int main(void)
{
    pid_t pids[COUNT];
    int status;
    board_make();
    for (int n = 0; n < COUNT; n++)
        pids[n] = spawn(child, n);
    for (int n = 0; n < COUNT; n++) {
        await_state(pids[n], 'T');
        if (n < 4)
            CHECK(waitpid(pids[n], &status, WUNTRACED) == pids[n] && status == W_STOPCODE(number[n % 4]));
    }
    checkpoint_tree(COUNT);
    for (int n = 0; n < COUNT; n++) {
        CHECK_EQ(who_is(pids[n]).state, 'T');
        pid_t got = waitpid(pids[n], &status, WUNTRACED | WNOHANG);
        CHECK_EQ(got, n < 4 ? 0 : pids[n]);
        if (n >= 4)
            CHECK_EQ(status, W_STOPCODE(number[n % 4]));
        CHECK_EQ(waitpid(pids[n], &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
        CHECK(kill(pids[n], SIGCONT) == 0);
        CHECK(waitpid(pids[n], &status, WCONTINUED) == pids[n] && WIFCONTINUED(status));
    }
    board->turn = 2;
    for (int n = 0; n < COUNT; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

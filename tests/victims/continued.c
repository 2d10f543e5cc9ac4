/*
 * Two children are stopped and continued. The parent has read this from wait(2) for one of them,
 * and not yet for the other.
 */
#include "tree.h"

static void child(int place)
{
    arrive(place);
    raise(SIGSTOP);
    __atomic_add_fetch(&board->word[0], 1, __ATOMIC_SEQ_CST);
    await_turn(2);
    check_place(place);
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t untold = spawn(child, 1), told = spawn(child, 2);
    int status;
    for (int n = 0; n < 2; n++) {
        await_state(n ? told : untold, 'T');
        CHECK(kill(n ? told : untold, SIGCONT) == 0);
    }
    CHECK(waitpid(told, &status, WCONTINUED) == told && WIFCONTINUED(status));
    while (board->word[0] < 2)
        nap();
    checkpoint_tree(2);
    CHECK_EQ(waitpid(told, &status, WCONTINUED | WUNTRACED | WNOHANG), 0);
    CHECK_EQ(waitpid(untold, &status, WCONTINUED | WUNTRACED | WNOHANG), untold);
    CHECK(WIFCONTINUED(status));
    CHECK_EQ(waitpid(untold, &status, WCONTINUED | WUNTRACED | WNOHANG), 0);
    board->turn = 2;
    reap(untold, W_EXITCODE(1, 0));
    reap(told, W_EXITCODE(2, 0));
    return done();
}

/*
 * A child waits in vfork(2) nearly all the time for a child that waits in vfork(2) itself: whoever
 * stops the innermost one first must not wait for the others before it goes on.
 */
#include "tree.h"

static void child(int place)
{
    long turns = 0;
    arrive(place);
    for (; board->turn < 1; turns++) {
        pid_t middle = vfork();
        if (middle == 0) {
            pid_t inner = vfork();
            if (inner == 0) {
                for (int n = 0; n < 50; n++)
                    pause_briefly();
                _exit(7);
            }
            reap(inner, W_EXITCODE(7, 0));
            _exit(8);
        }
        reap(middle, W_EXITCODE(8, 0));
        board->word[place] = turns;
    }
    CHECK(board->word[place] == turns - 1);
    check_place(place);
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t one = spawn(child, 1);
    checkpoint_tree(1);
    reap(one, W_EXITCODE(1, 0));
    return done();
}

/*
 * Two children wait in vfork(2) nearly all the time, a few milliseconds each. In one the grandchild
 * exits, in the other it executes a program.
 */
#include "tree.h"

static void child(int place)
{
    long turns = 0;
    arrive(place);
    for (; board->turn < 1; turns++) {
        pid_t pid = vfork();
        if (pid == 0) {
            pause_briefly();
            pause_briefly();
            if (place == 2)
                execl("/bin/true", "true", NULL);
            _exit(place == 1 ? 7 : 8);
        }
        reap(pid, W_EXITCODE(place == 1 ? 7 : 0, 0));
        board->word[place] = turns;
    }
    CHECK(board->word[place] == turns - 1);
    check_place(place);
    _exit(place);
}

int main(void)
{
    board_make();
    pid_t one = spawn(child, 1), two = spawn(child, 2);
    checkpoint_tree(2);
    reap(one, W_EXITCODE(1, 0));
    reap(two, W_EXITCODE(2, 0));
    return done();
}

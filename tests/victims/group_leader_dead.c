/*
 * The leader of a process group has ended and was reaped. The group still exists: it can be
 * signalled, waited for, and joined by another process.
 */
#include "tree.h"

static pid_t group;

static void member(int place)
{
    CHECK(setpgid(0, group) == 0);
    count_signals(SIGUSR1);
    over_checkpoint(place);
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], 1);
    _exit(place);
}

static void joiner(int place)
{
    over_checkpoint(place);
    CHECK(setpgid(0, group) == 0 && getpgrp() == group);
    count_signals(SIGUSR1);
    board->word[place] = 1;
    await_turn(2);
    CHECK_EQ(signals_seen[SIGUSR1], 1);
    _exit(place);
}

int main(void)
{
    board_make();
    group = spawn(member, 0); /* it becomes the leader: `group` is still 0 in it */
    await_arrivals(1);
    pid_t one = spawn(member, 1), two = spawn(member, 2), three = spawn(joiner, 3);
    await_arrivals(4);
    CHECK(kill(group, SIGKILL) == 0);
    reap(group, W_EXITCODE(0, SIGKILL));
    checkpoint_tree(4);
    CHECK(getpgid(one) == group && getpgid(two) == group && getsid(one) == getpid());
    while (!board->word[3])
        nap();
    CHECK(kill(-group, SIGUSR1) == 0);
    board->turn = 2;
    int status, sum = 0;
    for (pid_t pid; (pid = waitpid(-group, &status, 0)) > 0; sum += WEXITSTATUS(status))
        CHECK(WIFEXITED(status) && (pid == one || pid == two || pid == three));
    CHECK(errno == ECHILD && sum == 1 + 2 + 3);
    return done();
}

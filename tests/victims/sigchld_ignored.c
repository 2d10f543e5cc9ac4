/*
 * Parents that ignore SIGCHLD or set SA_NOCLDWAIT or SA_NOCLDSTOP still get no zombie, no status or
 * no signal, as they chose.
 */
#include "tree.h"

static void child(int place)
{
    CHECK(setpgid(0, 0) == 0);
    over_checkpoint(place);
    if (place == 13)
        raise(SIGSTOP);
    _exit(place);
}

static void parent(int place)
{
    struct sigaction action = {.sa_handler = place == 1 ? SIG_IGN : count_signal}, now_set;
    action.sa_flags = place == 2 ? SA_NOCLDWAIT : place == 3 ? SA_NOCLDSTOP : 0;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pid_t pid = spawn(child, place + 10);
    over_checkpoint(place);
    CHECK(sigaction(SIGCHLD, NULL, &now_set) == 0 && now_set.sa_handler == action.sa_handler);
    CHECK_EQ(now_set.sa_flags & (SA_NOCLDWAIT | SA_NOCLDSTOP), action.sa_flags);
    if (place == 3) {
        await_state(pid, 'T');
        CHECK(signals_seen[SIGCHLD] == 0 && kill(pid, SIGCONT) == 0);
        reap(pid, W_EXITCODE(13, 0));
        CHECK_EQ(signals_seen[SIGCHLD], 1);
    } else {
        while (waitpid(pid, NULL, 0) >= 0 || errno == EINTR)
            ;
        CHECK_EQ(errno, ECHILD);
        CHECK_EQ(signals_seen[SIGCHLD], place == 2);
    }
    no_children_left();
    _exit(place);
}

int main(void)
{
    pid_t pids[4];
    board_make();
    for (int n = 1; n <= 3; n++)
        pids[n] = spawn(parent, n);
    checkpoint_tree(6);
    for (int n = 1; n <= 3; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

/*
 * Each process has its own timers. They do not run for other processes, and a child does not
 * inherit them.
 */
#include "tree.h"
#include <sys/time.h>

/* Checks that nearly all of the time is left, or that the timer is off if `asked` is 0. */
static void check_left(int which, long asked)
{
    struct itimerval left;
    CHECK(getitimer(which, &left) == 0);
    CHECK(asked ? left.it_value.tv_sec <= asked && left.it_value.tv_sec >= asked - 400 : !left.it_value.tv_sec);
    CHECK_EQ(left.it_interval.tv_usec, asked ? 77 : 0);
}

static void child(int place)
{
    static const int kinds[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    struct itimerval value = {{0, 77}, {1000 * place, 0}};
    timer_t timer;
    if (place <= 3)
        CHECK(setitimer(kinds[place - 1], &value, NULL) == 0);
    if (place == 4) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        struct itimerspec every = {{0, 20000000}, {0, 20000000}};
        count_signals(SIGUSR1);
        CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &every, NULL) == 0);
    }
    if (place == 5)
        count_signals(SIGALRM), alarm(2);
    over_checkpoint(place);
    for (int n = 0; n < 3; n++)
        if (place != 5 || n != 0)
            check_left(kinds[n], place == n + 1 ? 1000 * place : 0);
    for (int n = 0, seen = signals_seen[SIGUSR1]; place == 4 && n < 3; n++, seen = signals_seen[SIGUSR1])
        while (signals_seen[SIGUSR1] == seen)
            nap();
    while (place == 5 && !signals_seen[SIGALRM])
        nap();
    CHECK(signals_seen[SIGALRM] == (place == 5) && (place == 4 || !signals_seen[SIGUSR1]));
    _exit(place);
}

int main(void)
{
    pid_t pids[6];
    struct itimerval mine = {{0, 77}, {9000, 0}};
    board_make();
    CHECK(setitimer(ITIMER_REAL, &mine, NULL) == 0);
    for (int n = 1; n <= 5; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(5);
    check_left(ITIMER_REAL, 9000);
    check_left(ITIMER_VIRTUAL, 0);
    for (int n = 1; n <= 5; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

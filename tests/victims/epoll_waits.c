/*
 * epoll(7): threads and a child wait in it without a timeout. Each event wakes one of them, and a
 * signalfd in it takes the signals of its own process.
 */
#include "tree.h"
#include "epoll.h"
#include <sys/signalfd.h>

static int poll, event, childs;
static volatile pid_t waiter;

static uint64_t await(int instance)
{
    struct epoll_event got;
    CHECK_EQ(epoll_wait(instance, &got, 1, -1), 1);
    return got.data.u64;
}

static void *waits(void *unused)
{
    waiter = gettid();
    CHECK_EQ(await(poll), 1);
    return unused;
}

/* Its own instance has a signalfd: only the signals of the process that has added it count. */
static void child(int place)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int signals = signalfd(-1, &set, 0), own = epoll_create1(0);
    watch(own, signals, EPOLLIN, 7);
    watch(own, childs, EPOLLIN, 8);
    arrive(place);
    board->word[place] = await(own);
    CHECK_EQ(board->word[place], 7);
    struct signalfd_siginfo info;
    CHECK(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
    CHECK_EQ(await(own), 8);
    check_place(place);
}

int main(void)
{
    CHECK((poll = epoll_create1(0)) >= 0 && (event = eventfd(0, 0)) >= 0 && (childs = eventfd(0, 0)) >= 0);
    watch(poll, event, EPOLLIN | EPOLLONESHOT, 1);
    board_make();
    pid_t pid = spawn(child, 1);
    pthread_t thread = start(waits, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_epoll_wait);
    wait_blocked_process(pid, SYS_epoll_wait);

    checkpoint_tree(1);

    wait_blocked(waiter, SYS_epoll_wait);
    wait_blocked_process(pid, SYS_epoll_wait);
    CHECK(kill(pid, SIGUSR1) == 0);
    while (!board->word[1])
        pause_briefly();
    CHECK(write(childs, &(uint64_t){1}, 8) == 8 && write(event, &(uint64_t){1}, 8) == 8);
    join(thread);
    reap(pid, 0);
    return done();
}

/*
 * epoll(7): instances that watch each other in a row, one of them without a descriptor for what it
 * watches, and two that watch one file with EPOLLEXCLUSIVE.
 */
#include "victim.h"
#include "epoll.h"

enum { DEEP = 4 };

int main(void)
{
    int event = eventfd(0, 0), poll[DEEP], exclusive[2], shared = eventfd(0, 0);
    for (int n = 0; n < DEEP; n++) {
        CHECK((poll[n] = epoll_create1(0)) >= 0);
        watch(poll[n], n ? poll[n - 1] : event, n % 2 ? EPOLLIN | EPOLLET : EPOLLIN, n);
    }
    for (int n = 0; n < 2; n++) {
        CHECK((exclusive[n] = epoll_create1(0)) >= 0);
        watch(exclusive[n], shared, EPOLLIN | EPOLLEXCLUSIVE, 10 + n);
    }
    struct entries before[2] = {entries_of(poll[DEEP - 1]), entries_of(exclusive[1])};
    CHECK_EQ(before[1].at[0].events, EPOLLIN | EPOLLEXCLUSIVE | EPOLLERR | EPOLLHUP);

    checkpoint_here(1);

    struct entries after[2] = {entries_of(poll[DEEP - 1]), entries_of(exclusive[1])};
    check_same(&before[0], &after[0]);
    check_same(&before[1], &after[1]);
    for (int n = 0; n < DEEP; n++)
        CHECK_EQ(ready(poll[n]), 0);
    CHECK(write(event, &(uint64_t){1}, 8) == 8);
    for (int n = DEEP; n-- > 0;)
        CHECK(is_ready(poll[n], n));
    CHECK(read(event, &(uint64_t){0}, 8) == 8 && ready(poll[DEEP - 1]) == 0);
    /* A row may not become a ring. */
    struct epoll_event in = {.events = EPOLLIN};
    CHECK(epoll_ctl(poll[0], EPOLL_CTL_ADD, poll[DEEP - 1], &in) == -1 && errno == ELOOP);
    CHECK(write(shared, &(uint64_t){1}, 8) == 8 && is_ready(exclusive[0], 10) && is_ready(exclusive[1], 11));
    CHECK(epoll_ctl(exclusive[0], EPOLL_CTL_MOD, shared, &in) == -1 && errno == EINVAL);
    return done();
}

/*
 * epoll(7): level- and edge-triggered, with EPOLLONESHOT armed and fired, without events, the same
 * file twice, data of 64 bits. What was ready is ready, and each entry can be changed and removed.
 */
#include "victim.h"
#include "epoll.h"
#include <sys/ioctl.h>

/* ioctl_eventpoll(2), which not every libc has. */
struct params {
    uint32_t usecs;
    uint16_t budget;
    uint8_t prefer, pad;
};
#define EPIOCSPARAMS_ _IOW(0x8a, 1, struct params)
#define EPIOCGPARAMS_ _IOR(0x8a, 2, struct params)

/* The parameters of an instance after the call as one number, or -1 on a kernel without them. */
static int busy_poll(int poll, unsigned long call, struct params params)
{
    if (ioctl(poll, call, &params) != 0)
        return -1;
    return params.usecs * 10000 + params.budget * 10 + params.prefer;
}

int main(void)
{
    int full[2], empty[2], drained[2], edge[2], poll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(pipe(full) == 0 && pipe(empty) == 0 && pipe(drained) == 0 && pipe(edge) == 0);
    int event = eventfd(1, 0), mute = eventfd(1, 0), again = dup(full[0]), armed = eventfd(0, EFD_NONBLOCK);
    CHECK(write(full[1], "x", 1) == 1 && write(drained[1], "x", 1) == 1 && write(edge[1], "x", 1) == 1);
    watch(poll, event, EPOLLIN | EPOLLONESHOT, 1);
    watch(poll, drained[0], EPOLLIN | EPOLLONESHOT, 2);
    watch(poll, edge[0], EPOLLIN | EPOLLET | EPOLLRDHUP, UINT64_MAX);
    CHECK(is_ready(poll, 1) && is_ready(poll, 2) && is_ready(poll, UINT64_MAX) && ready(poll) == 0);
    CHECK(read(drained[0], &(char){0}, 1) == 1);
    watch(poll, full[0], EPOLLIN | EPOLLPRI, 3);
    watch(poll, again, EPOLLIN | EPOLLET, 4);
    watch(poll, empty[0], EPOLLIN, 5);
    watch(poll, mute, 0, 6);
    watch(poll, armed, EPOLLIN | EPOLLONESHOT | EPOLLET, 1ULL << 63);
    /* Without CAP_BLOCK_SUSPEND, or suspend to RAM, the kernel leaves the bit out. */
    int awake = eventfd(0, 0), polls = busy_poll(poll, EPIOCSPARAMS_, (struct params){50, 8, 1, 0});
    watch(poll, awake, EPOLLIN | EPOLLWAKEUP, 9);
    struct entries before = entries_of(poll);
    CHECK_EQ(before.count, 9);

    checkpoint_here(1);

    struct entries after = entries_of(poll);
    check_same(&before, &after);
    CHECK_EQ(busy_poll(poll, EPIOCGPARAMS_, (struct params){0}), polls);
    CHECK(fcntl(poll, F_GETFD) == FD_CLOEXEC && fcntl(poll, F_GETFL) == O_RDWR);
    /* An edge that was reported may be reported once more. */
    for (int turn = 0; turn < 2; turn++) {
        CHECK(is_ready(poll, 3) && !is_ready(poll, 1) && !is_ready(poll, 2) && !is_ready(poll, 5) && !is_ready(poll, 6));
        CHECK(!is_ready(poll, 1ULL << 63));
    }
    CHECK(is_ready(poll, 4) && !is_ready(poll, 4));
    is_ready(poll, UINT64_MAX);
    CHECK(!is_ready(poll, UINT64_MAX));
    CHECK(write(edge[1], "y", 1) == 1 && is_ready(poll, UINT64_MAX) && !is_ready(poll, UINT64_MAX));
    CHECK(write(full[1], "y", 1) == 1 && is_ready(poll, 4) && !is_ready(poll, 4));
    CHECK(write(empty[1], "y", 1) == 1 && is_ready(poll, 5) && is_ready(poll, 5));
    /* An entry that has fired comes back when it is changed, and not before. */
    CHECK(write(drained[1], "y", 1) == 1 && !is_ready(poll, 2));
    change(poll, drained[0], EPOLLIN | EPOLLONESHOT, 7);
    change(poll, event, EPOLLIN, 8);
    CHECK(is_ready(poll, 7) && !is_ready(poll, 7) && is_ready(poll, 8) && is_ready(poll, 8));
    CHECK(write(armed, &(uint64_t){1}, 8) == 8 && is_ready(poll, 1ULL << 63) && !is_ready(poll, 1ULL << 63));
    CHECK(close(edge[1]) == 0 && is_ready(poll, UINT64_MAX));
    int all[] = {event, drained[0], edge[0], full[0], again, empty[0], mute, armed, awake};
    for (unsigned n = 0; n < sizeof all / sizeof *all; n++)
        CHECK(epoll_ctl(poll, EPOLL_CTL_DEL, all[n], NULL) == 0);
    CHECK_EQ(entries_of(poll).count, 0);
    return done();
}

/*
 * epoll(7): entries outlive the numbers with which they were added. A number is closed, another one
 * leads to another file that is watched too, and one file is open in a child only.
 */
#include "tree.h"
#include "epoll.h"

static int gone, reused, other, childs[2];

/* The parent has closed its own end. */
static void child(int place)
{
    arrive(place);
    await_turn(1);
    check_place(place);
    CHECK(write(childs[0], &(uint64_t){1}, 8) == 8);
    await_turn(2);
}

int main(void)
{
    int poll = epoll_create1(0);
    CHECK((gone = eventfd(0, 0)) >= 0 && (reused = eventfd(0, 0)) >= 0 && (other = eventfd(0, 0)) >= 0);
    CHECK((childs[0] = eventfd(0, 0)) >= 0);
    int gones = dup(gone), reuseds = dup(reused);
    board_make();
    watch(poll, gone, EPOLLIN, 1);
    watch(poll, reused, EPOLLIN, 2);
    watch(poll, childs[0], EPOLLIN | EPOLLET, 3);
    CHECK(close(gone) == 0 && dup2(other, reused) == reused);
    watch(poll, reused, EPOLLIN, 4);
    CHECK_EQ(dup3(other, 1000, O_CLOEXEC), 1000);
    watch(poll, 1000, EPOLLIN, 5);
    CHECK(close(1000) == 0);
    pid_t pid = spawn(child, 1);
    CHECK(close(childs[0]) == 0);
    struct entries before = entries_of(poll);
    CHECK_EQ(before.count, 5);

    checkpoint_tree(1);

    struct entries after = entries_of(poll);
    check_same(&before, &after);
    CHECK(fcntl(gone, F_GETFD) == -1 && fcntl(1000, F_GETFD) == -1 && fcntl(childs[0], F_GETFD) == -1);
    while (!is_ready(poll, 3))
        pause_briefly();
    CHECK(ready(poll) == 0);
    CHECK(write(gones, &(uint64_t){1}, 8) == 8 && is_ready(poll, 1) && read(gones, &(uint64_t){0}, 8) == 8);
    CHECK(write(reuseds, &(uint64_t){1}, 8) == 8 && is_ready(poll, 2) && read(reuseds, &(uint64_t){0}, 8) == 8);
    CHECK(ready(poll) == 0 && write(other, &(uint64_t){1}, 8) == 8 && ready(poll) == 2);
    CHECK(is_ready(poll, 4) && is_ready(poll, 5));
    /* The number and the file together name an entry. */
    CHECK(epoll_ctl(poll, EPOLL_CTL_DEL, gones, NULL) == -1 && errno == ENOENT);
    CHECK(dup2(gones, gone) == gone && epoll_ctl(poll, EPOLL_CTL_DEL, gone, NULL) == 0);
    CHECK(epoll_ctl(poll, EPOLL_CTL_DEL, reused, NULL) == 0 && dup2(reuseds, reused) == reused);
    CHECK(epoll_ctl(poll, EPOLL_CTL_DEL, reused, NULL) == 0);
    CHECK(close(other) == 0 && close(reused) == 0);
    board->turn = 2;
    reap(pid, 0);
    /* An entry goes with the last descriptor of its file. */
    CHECK_EQ(entries_of(poll).count, 0);
    return done();
}

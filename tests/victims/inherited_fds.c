/*
 * Descriptions shared through fork(2) share position and flags. Descriptor numbers and
 * close-on-exec belong to each process. Files opened separately share nothing.
 */
#include "tree.h"

enum { BOTH = 40, ROOT_CLOSED = 41, SIBLINGS = 42, APART = 43, CLOSED = 44, MOVED = 45 };

static void open_at(int want, int flags)
{
    int fd = open("data", flags);
    CHECK(fd >= 0 && dup2(fd, want) == want && close(fd) == 0);
}

static void child(int place)
{
    CHECK(close(CLOSED) == 0 && fcntl(BOTH, F_SETFD, place == 1 ? FD_CLOEXEC : 0) == 0);
    open_at(APART, O_RDONLY);
    CHECK(lseek(APART, place, SEEK_SET) == place);
    CHECK(dup2(BOTH, MOVED + place) == MOVED + place);
    if (place == 2)
        CHECK(close(ROOT_CLOSED) == 0);
    over_checkpoint(place);
    CHECK(fcntl(CLOSED, F_GETFD) < 0 && errno == EBADF);
    CHECK_EQ(fcntl(BOTH, F_GETFD), place == 1 ? FD_CLOEXEC : 0);
    CHECK_EQ(lseek(APART, 0, SEEK_CUR), place);
    if (place == 1) {
        CHECK(lseek(ROOT_CLOSED, 0, SEEK_CUR) == 31 && lseek(SIBLINGS, 0, SEEK_CUR) == 32);
        CHECK(lseek(BOTH, 55, SEEK_SET) == 55 && lseek(MOVED + 1, 0, SEEK_CUR) == 55);
        CHECK(fcntl(BOTH, F_SETFL, O_APPEND | O_NONBLOCK) == 0 && lseek(SIBLINGS, 66, SEEK_SET) == 66);
        board->word[0] = 1;
    } else {
        while (!board->word[0])
            nap();
        CHECK(lseek(SIBLINGS, 0, SEEK_CUR) == 66 && lseek(MOVED + 2, 0, SEEK_CUR) == 55);
        CHECK((fcntl(MOVED + 2, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
    }
    CHECK_EQ(compare(getpid(), board->who[3 - place].pid, SAME_FILE, MOVED + place, BOTH), 0);
    CHECK(compare(getpid(), board->root, SAME_FILE, APART, APART) > 0);
    /* Wait, so that neither child ends before the other has checked. */
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
    await_turn(2);
    _exit(place);
}

int main(void)
{
    board_make();
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 1000) == 0 && close(fd) == 0);
    for (int n = BOTH; n <= CLOSED; n++)
        open_at(n, O_RDWR);
    for (int n = BOTH; n <= CLOSED; n++)
        CHECK(lseek(n, n - 10, SEEK_SET) == n - 10);
    pid_t one = spawn(child, 1), two = spawn(child, 2);
    CHECK(close(ROOT_CLOSED) == 0 && close(SIBLINGS) == 0);
    checkpoint_tree(2);
    CHECK(fcntl(ROOT_CLOSED, F_GETFD) < 0 && fcntl(SIBLINGS, F_GETFD) < 0);
    while (!board->word[0])
        nap();
    CHECK(lseek(BOTH, 0, SEEK_CUR) == 55 && (fcntl(BOTH, F_GETFL) & O_APPEND));
    CHECK(lseek(APART, 0, SEEK_CUR) == 33 && lseek(CLOSED, 0, SEEK_CUR) == 34 && !(fcntl(APART, F_GETFL) & O_APPEND));
    await_checks(4);
    board->turn = 2;
    reap(one, W_EXITCODE(1, 0));
    reap(two, W_EXITCODE(2, 0));
    return done();
}

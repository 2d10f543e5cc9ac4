/*
 * A thread has its own descriptor table (unshare(CLONE_FILES)). Each table is unchanged, and shared
 * descriptions are still shared.
 */
#include "tree.h"

static volatile pid_t tid;

static void *body(void *arg)
{
    CHECK(unshare(CLONE_FILES) == 0);
    CHECK(close(50) == 0 && dup3(0, 51, O_CLOEXEC) == 51);
    int own = open("own", O_RDWR | O_CREAT, 0600);
    CHECK(own >= 0 && dup2(own, 60) == 60 && close(own) == 0 && write(60, "abc", 3) == 3);
    tid = gettid();
    await_turn(1);
    CHECK(fcntl(50, F_GETFD) < 0 && errno == EBADF && fcntl(51, F_GETFD) == FD_CLOEXEC);
    CHECK_EQ(lseek(60, 0, SEEK_CUR), 3);
    CHECK_EQ(lseek(40, 0, SEEK_CUR), 7);
    CHECK_EQ(lseek(40, 9, SEEK_SET), 9);
    return arg;
}

int main(void)
{
    board_make();
    int file = open("shared", O_RDWR | O_CREAT, 0600);
    CHECK(dup2(file, 40) == 40 && close(file) == 0 && lseek(40, 7, SEEK_SET) == 7 && dup2(0, 50) == 50);
    pthread_t thread = start(body, NULL);
    while (!tid)
        nap();
    checkpoint_tree(0);
    CHECK(compare(getpid(), tid, SAME_FILES, 0, 0) > 0);
    CHECK_EQ(compare(getpid(), tid, SAME_FILE, 40, 40), 0);
    CHECK(fcntl(50, F_GETFD) == 0 && fcntl(51, F_GETFD) < 0 && fcntl(60, F_GETFD) < 0);
    join(thread);
    CHECK_EQ(lseek(40, 0, SEEK_CUR), 9);
    return done();
}

/* clone(CLONE_FS): two processes share one working directory, root and umask. */
#include "tree.h"

static void child(int place)
{
    char cwd[4096];
    over_checkpoint(place);
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(strrchr(cwd, '/'), "/one") == 0);
    CHECK(chdir("../two") == 0 && umask(0123) == 077);
    board->word[0] = 1;
    await_turn(2);
    CHECK(access("in_two", F_OK) < 0 && chdir("two") == 0);
    CHECK(unshare(CLONE_FS) == 0 && chdir("/") == 0);
    _exit(5);
}

int main(void)
{
    char cwd[4096];
    board_make();
    CHECK(mkdir("one", 0777) == 0 && mkdir("two", 0777) == 0);
    go_dir = "..";
    pid_t pid = spawn_with(CLONE_FS | SIGCHLD, child, 1);
    await_arrivals(1);
    umask(077);
    CHECK(chdir("one") == 0);
    checkpoint_tree(1);
    CHECK_EQ(compare(getpid(), pid, SAME_FS, 0, 0), 0);
    CHECK(compare(getpid(), pid, SAME_FILES, 0, 0) > 0);
    while (!board->word[0])
        nap();
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(strrchr(cwd, '/'), "/two") == 0);
    CHECK(umask(0) == 0123 && chdir("..") == 0);
    board->turn = 2;
    reap(pid, W_EXITCODE(5, 0));
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(strrchr(cwd, '/'), "/two") == 0);
    return done();
}

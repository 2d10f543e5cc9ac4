/* Each process has its own working directory, root and umask. */
#include "tree.h"

static void child(int place)
{
    char name[16], path[4096];
    snprintf(name, sizeof name, "dir%d", place);
    CHECK(mkdir(name, 0777) == 0 && chdir(name) == 0 && close(open("here", O_CREAT | O_WRONLY, 0600)) == 0);
    umask(place);
    board->who[place] = who_am_i();
    if (place == 3)
        CHECK(chroot(".") == 0);
    __atomic_add_fetch(&board->arrived, 1, __ATOMIC_SEQ_CST);
    await_turn(1);
    CHECK(access("here", F_OK) == 0);
    char *cwd = getcwd(path, sizeof path);
    CHECK(cwd && strcmp(strrchr(cwd, '/') + 1, place == 3 ? "" : name) == 0);
    CHECK_EQ(umask(0), place);
    if (place == 3)
        CHECK(access("/here", F_OK) == 0 && access("/proc", F_OK) < 0);
    else
        check_place(place);
    CHECK(chdir("/") == 0);
    _exit(place);
}

int main(void)
{
    pid_t pids[4];
    char before[4096], after[4096];
    board_make();
    CHECK(getcwd(before, sizeof before));
    umask(077);
    for (int n = 1; n <= 3; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(3);
    for (int n = 1; n <= 3; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    CHECK(getcwd(after, sizeof after) && strcmp(before, after) == 0);
    CHECK_EQ(umask(0), 077);
    return done();
}

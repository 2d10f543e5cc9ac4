/* A thread has its own working directory and umask (unshare(CLONE_FS)). */
#include "tree.h"

static volatile pid_t tid;

static void *body(void *arg)
{
    char cwd[4096];
    CHECK(unshare(CLONE_FS) == 0 && mkdir("below", 0777) == 0 && chdir("below") == 0);
    CHECK_EQ(umask(0751), 022);
    tid = gettid();
    await_turn(1);
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(strrchr(cwd, '/'), "/below") == 0);
    CHECK_EQ(umask(0111), 0751);
    CHECK(chdir("/") == 0);
    return arg;
}

int main(void)
{
    char before[4096], after[4096];
    board_make();
    CHECK(getcwd(before, sizeof before));
    umask(022);
    pthread_t thread = start(body, NULL);
    while (!tid)
        nap();
    checkpoint_tree(0);
    join(thread);
    CHECK(getcwd(after, sizeof after) && strcmp(before, after) == 0);
    CHECK_EQ(umask(0), 022);
    return done();
}

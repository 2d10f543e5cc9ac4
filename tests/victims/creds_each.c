/* Children with different users, groups and capabilities. */
#include "tree.h"
#include <grp.h>

static const char *const lines[] = {
    "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
};
enum { LINES = sizeof lines / sizeof *lines };

static void child(int place)
{
    gid_t groups[3] = {place, 100 + place, 70000 + place};
    uid_t r, e, s;
    if (place == 5)
        CHECK(prctl(PR_CAPBSET_DROP, 12) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    else
        CHECK(setgroups(place % 4, groups) == 0);
    if (place < 4) {
        CHECK(setresgid(2000 + place, 3000 + place, 4000 + place) == 0);
        CHECK(setresuid(1000 + place, 5000 + place, 6000 + place) == 0);
    }
    char *before[LINES];
    for (int n = 0; n < LINES; n++)
        before[n] = strdup(proc_line("/proc/self/status", lines[n]));
    int dumpable = prctl(PR_GET_DUMPABLE);
    over_checkpoint(place);
    for (int n = 0; n < LINES; n++)
        CHECK(strcmp(before[n], proc_line("/proc/self/status", lines[n])) == 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), dumpable);
    CHECK(getresuid(&r, &e, &s) == 0);
    CHECK(place >= 4 || (r == 1000 + place && e == 5000 + place && s == 6000 + place));
    CHECK(place >= 4 || (kill(board->root, 0) < 0 && errno == EPERM));
    _exit(place);
}

int main(void)
{
    pid_t pids[6];
    board_make();
    for (int n = 1; n <= 5; n++)
        pids[n] = spawn(child, n);
    checkpoint_tree(5);
    CHECK(getuid() == 0 && geteuid() == 0);
    for (int n = 1; n <= 5; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    return done();
}

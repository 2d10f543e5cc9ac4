/*
 * A segment in several processes, each with its own address and access rights. A child made the
 * segment, and the root has not attached it.
 */
#include "tree.h"
#include "sysv_shm.h"

enum { COUNT = 3 };

static volatile int id;

static void child(int place)
{
    char *want = (char *)0x500000000000 + place * 0x100000000;
    char *at = shmat(id, want, place == 2 ? SHM_RDONLY : 0);
    CHECK(at == want);
    if (place != 2)
        snprintf(at + place * PAGE, PAGE, "by %d", place);
    if (place == 3)
        CHECK(munmap(at + 5 * PAGE, PAGE) == 0);
    over_checkpoint(place);
    CHECK(strcmp(at + PAGE, "by 1") == 0 && strcmp(at + 3 * PAGE, "by 3") == 0);
    if (place == 1)
        strcpy(at + 4 * PAGE, "after");
    while (strcmp(at + 4 * PAGE, "after") != 0)
        nap();
    await_turn(2);
    CHECK(shmdt(at) == 0);
    _exit(place);
}

static void maker(int pipe)
{
    int made = shmget(key_of(0), 8 * PAGE, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(made >= 0 && write(pipe, &made, sizeof made) == sizeof made);
}

int main(void)
{
    pid_t pids[COUNT + 1];
    int ends[2], made;
    board_make();
    CHECK(pipe(ends) == 0);
    pids[0] = spawn(maker, ends[1]);
    CHECK(read(ends[0], &made, sizeof made) == sizeof made && close(ends[0]) == 0 && close(ends[1]) == 0);
    id = made;
    reap(pids[0], 0);
    for (int n = 1; n <= COUNT; n++)
        pids[n] = spawn(child, n);
    await_arrivals(COUNT);
    struct shmid_ds before = stat_of(id);
    CHECK_EQ(before.shm_nattch, COUNT + 1);
    checkpoint_tree(COUNT);
    check_same_segment(id, &before);
    board->turn = 2;
    for (int n = 1; n <= COUNT; n++)
        reap(pids[n], W_EXITCODE(n, 0));
    CHECK_EQ(stat_of(id).shm_nattch, 0);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    return done();
}

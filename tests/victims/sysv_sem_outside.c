/*
 * A process of the tree holds a lock (SEM_UNDO). A process outside the tree, which gets the id of
 * the set as its argument, wants it. The end of the holder releases the lock. Its restore takes the
 * lock again, unless the outside process holds it by then.
 */
#include "victim.h"
#include "sysv_sem.h"

static int inside(void)
{
    int set = new_set(IPC_PRIVATE, 2, 0, 0, 0600), fd = open("id", O_WRONLY | O_CREAT, 0600);
    CHECK(dprintf(fd, "%d", set) > 0 && close(fd) == 0);
    CHECK(semctl(set, 0, SETVAL, 1) == 0 && operate(set, 0, -1, SEM_UNDO) == 0);
    checkpoint_here(1);
    CHECK_EQ(semctl(set, 0, GETVAL), 0);
    CHECK_EQ(semctl(set, 1, GETVAL), 5);
    return done();
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return inside();
    int set = atoi(argv[1]);
    CHECK(operate(set, 0, -1, IPC_NOWAIT) == -1 && errno == EAGAIN);
    CHECK(operate(set, 1, 5, 0) == 0);
    checkpoint_here(1);
    CHECK(operate(set, 0, -1, IPC_NOWAIT) == 0);
    checkpoint_here(2);
    CHECK(operate(set, 0, 1, 0) == 0);
    checkpoint_here(3);
    CHECK(operate(set, 0, -1, IPC_NOWAIT) == -1 && errno == EAGAIN);
    checkpoint_here(4);
    CHECK(operate(set, 0, -1, IPC_NOWAIT) == 0 && semctl(set, 0, IPC_RMID) == 0);
    return done();
}

/*
 * System V semaphores keep id, key, owner, mode, values from 0 to 32767, and the last process on
 * each. The undo values of a process, from -32768 to 32767, are applied when it ends. A thread
 * waits for a semaphore without a timeout. One set was never used. The lock still excludes.
 */
#include "tree.h"
#include "sysv_sem.h"

enum { FREE, LOCK, MOST, DEAD, WAITED, LOW, HIGH, BOTH, COUNT = 200 };

static int set;
static volatile pid_t waiter;

static void *waits(void *unused)
{
    waiter = gettid();
    struct sembuf op = {.sem_num = WAITED, .sem_op = -3};
    CHECK(syscall(SYS_semop, set, &op, 1) == 0); /* glibc would call semtimedop */
    return unused;
}

static void up_and_down(int n, int add, int up, int down)
{
    CHECK(operate(set, n, add, up) == 0 && operate(set, n, -add, down) == 0);
}

static void holder(int place)
{
    CHECK(operate(set, LOCK, -1, SEM_UNDO) == 0);
    up_and_down(LOW, 32767, SEM_UNDO, 0);
    up_and_down(LOW, 1, SEM_UNDO, 0);
    up_and_down(HIGH, 32767, 0, SEM_UNDO);
    up_and_down(BOTH, 100, 0, SEM_UNDO);
    over_checkpoint(place);
    await_turn(2);
    _exit(7);
}

static void once(int n)
{
    CHECK(operate(set, n, 5, 0) == 0);
}

int main(void)
{
    board_make();
    set = new_set(key_of(0), COUNT, 77, 78, 0451);
    int unused = new_set(IPC_PRIVATE, 3, 0, 0, 0), fresh = new_set(key_of(1), 1, 1, 1, 0777);
    CHECK(semctl(set, LOCK, SETVAL, 1) == 0 && semctl(set, MOST, SETVAL, 32767) == 0);
    pid_t dead = spawn(once, DEAD);
    reap(dead, 0);
    pid_t child = spawn(holder, 0);
    pthread_t thread = start(waits, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_semop);
    await_arrivals(1);
    CHECK(operate(set, BOTH, 50, SEM_UNDO) == 0);
    CHECK_EQ(semctl(set, LOCK, GETVAL), 0);
    CHECK_EQ(semctl(set, DEAD, GETPID), dead);
    char *before = shown(set), *before_unused = shown(unused), *before_fresh = shown(fresh);

    checkpoint_tree(1);

    await_checks(1);
    wait_blocked(waiter, SYS_semop);
    check_shown(set, before);
    check_shown(unused, before_unused);
    check_shown(fresh, before_fresh);
    CHECK_EQ(semget(key_of(0), COUNT, 0), set);
    CHECK(operate(set, LOCK, -1, IPC_NOWAIT) == -1 && errno == EAGAIN);
    CHECK(operate(set, WAITED, 2, 0) == 0 && operate(set, LOW, 32767, 0) == 0);
    CHECK_EQ(semctl(set, WAITED, GETNCNT), 1);
    CHECK(operate(set, WAITED, 1, 0) == 0);
    join(thread);
    board->turn = 2;
    reap(child, 7 << 8);
    /*
     * The end of the child released its lock and applied its undo values. Each value stays in its
     * range.
     */
    CHECK_EQ(semctl(set, LOCK, GETVAL), 1);
    CHECK_EQ(semctl(set, LOW, GETVAL), 0);
    CHECK_EQ(semctl(set, HIGH, GETVAL), 32767);
    CHECK_EQ(semctl(set, BOTH, GETVAL), 150);
    CHECK_EQ(semctl(set, BOTH, GETPID), child);
    CHECK(operate(set, FREE, 0, IPC_NOWAIT) == 0 && operate(set, MOST, 1, 0) == -1 && errno == ERANGE);
    CHECK(semctl(set, 0, IPC_RMID) == 0 && semctl(unused, 0, IPC_RMID) == 0 && semctl(fresh, 0, IPC_RMID) == 0);
    return done();
}

/*
 * A process-shared mutex, held during the checkpoint, and a condition variable. Children block on
 * both. A child that ends while it holds a robust mutex leaves EOWNERDEAD.
 */
#include "tree.h"

static struct shared {
    pthread_mutex_t held, robust;
    pthread_cond_t changed;
    volatile int value, locked;
} *shared;

static void locker(int place)
{
    board->who[place].pid = getpid();
    CHECK(pthread_mutex_lock(&shared->held) == 0);
    shared->locked++;
    CHECK(pthread_mutex_unlock(&shared->held) == 0);
    _exit(place);
}

static void waiter(int place)
{
    CHECK(pthread_mutex_lock(&shared->held) == 0);
    board->who[place].pid = getpid();
    while (shared->value != 7)
        CHECK(pthread_cond_wait(&shared->changed, &shared->held) == 0);
    CHECK(pthread_mutex_unlock(&shared->held) == 0);
    _exit(place);
}

static void owner(int place)
{
    CHECK(pthread_mutex_lock(&shared->robust) == 0);
    over_checkpoint(place);
    _exit(place);
}

int main(void)
{
    pthread_mutexattr_t attr;
    pthread_condattr_t cattr;
    board_make();
    shared = mmap(NULL, sizeof *shared, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(pthread_mutexattr_init(&attr) == 0 && pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_condattr_init(&cattr) == 0 && pthread_condattr_setpshared(&cattr, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutex_init(&shared->held, &attr) == 0 && pthread_cond_init(&shared->changed, &cattr) == 0);
    CHECK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&shared->robust, &attr) == 0);
    pid_t two = spawn(waiter, 2), three = spawn(owner, 3);
    wait_blocked_process(two, SYS_futex);
    while (board->who[2].pid == 0) /* blocked on the condition, not on the way to the lock */
        nap();
    wait_blocked_process(two, SYS_futex);
    CHECK(pthread_mutex_lock(&shared->held) == 0);
    pid_t one = spawn(locker, 1);
    wait_blocked_process(one, SYS_futex);
    checkpoint_tree(1);
    CHECK_EQ(shared->locked, 0);
    CHECK_EQ(pthread_mutex_trylock(&shared->held), EBUSY);
    CHECK(pthread_mutex_unlock(&shared->held) == 0);
    reap(one, W_EXITCODE(1, 0));
    CHECK(pthread_mutex_lock(&shared->held) == 0 && shared->locked == 1);
    shared->value = 7;
    CHECK(pthread_cond_signal(&shared->changed) == 0 && pthread_mutex_unlock(&shared->held) == 0);
    reap(two, W_EXITCODE(2, 0));
    CHECK_EQ(pthread_mutex_lock(&shared->robust), EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&shared->robust) == 0 && pthread_mutex_unlock(&shared->robust) == 0);
    reap(three, W_EXITCODE(3, 0));
    return done();
}

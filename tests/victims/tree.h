/*
 * Several processes in one victim. The root speaks the protocol. The others stand at numbered places of a board, a file that all of
 * them map: each arrives, waits until the root's checkpoint is over, and looks again at who it is. Turns 2, 3 ... order what follows.
 */
#include "victim.h"
#include <sys/wait.h>

enum { PLACES = 256 };

/* Who a process is: what it is told itself is CHECKed against what /proc tells everybody. */
struct who {
    pid_t pid, ppid, pgid, sid;
    long long tty, tpgid, exit_signal;
    char state, comm[16];
};

static struct board {
    pid_t root;
    volatile int arrived, checked, turn;
    struct who who[PLACES];
    volatile long word[PLACES];
} *board __attribute__((unused));

/* How often `count_signal` ran, for each signal. */
static volatile sig_atomic_t signals_seen[65] __attribute__((unused));

/* The root makes the board before it forks. */
static inline void board_make(void)
{
    int fd = open("board", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, sizeof *board) == 0);
    board = mmap(NULL, sizeof *board, RW, MAP_SHARED, fd, 0);
    CHECK(board != MAP_FAILED && close(fd) == 0);
    board->root = getpid();
}

/* Sleeps a little longer than pause_briefly: many may wait at once. */
static inline void nap(void)
{
    struct timespec some = {0, 5000000};
    nanosleep(&some, NULL);
}

/* What /proc/PID/stat says of anybody, zombies too. Takes no memory but the stack. */
static inline struct who who_is(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t len = read(fd, text, sizeof text - 1);
    CHECK(len > 0 && close(fd) == 0);
    text[len] = 0;
    long long field[39];
    char *name = strchr(text, '(') + 1, *at = strrchr(text, ')');
    struct who who = {.pid = pid, .state = at[2]};
    memcpy(who.comm, name, at - name < 15 ? at - name : 15);
    at += 3;
    for (int n = 4; n <= 38; n++)
        field[n] = strtoll(at, &at, 10);
    who.ppid = field[4], who.pgid = field[5], who.sid = field[6];
    who.tty = field[7], who.tpgid = field[8], who.exit_signal = field[38];
    return who;
}

static inline struct who who_am_i(void)
{
    struct who who = who_is(getpid());
    CHECK_EQ(getppid(), who.ppid);
    CHECK_EQ(getpgrp(), who.pgid);
    CHECK_EQ(getpgid(getpid()), who.pgid);
    CHECK_EQ(getsid(0), who.sid);
    return who;
}

/* All but the state, which changes from moment to moment. */
static inline void check_same_who(const struct who *before, const struct who *after)
{
    CHECK_EQ(after->pid, before->pid);
    CHECK_EQ(after->ppid, before->ppid);
    CHECK_EQ(after->pgid, before->pgid);
    CHECK_EQ(after->sid, before->sid);
    CHECK_EQ(after->tty, before->tty);
    CHECK_EQ(after->tpgid, before->tpgid);
    CHECK_EQ(after->exit_signal, before->exit_signal);
    CHECK(strcmp(after->comm, before->comm) == 0);
}

/* The place is taken; its process may be checkpointed from now on. */
static inline void arrive(int place)
{
    board->who[place] = who_am_i();
    __atomic_add_fetch(&board->arrived, 1, __ATOMIC_SEQ_CST);
}

static inline void await_turn(int turn)
{
    while (board->turn < turn)
        nap();
    sched_yield(); /* a signal sent before the turn was called is handled by now */
}

/* Whoever stands at the place is still who it was. */
static inline void check_place(int place)
{
    struct who after = who_am_i();
    check_same_who(&board->who[place], &after);
}

/* A child's whole part: arrive, wait until the checkpoint is over, look again. */
static inline void over_checkpoint(int place)
{
    arrive(place);
    await_turn(1);
    check_place(place);
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
}

/* Waits until `count` have looked again, before something is changed for them. */
static inline void await_checks(int count)
{
    while (board->checked < count)
        nap();
}

static inline void await_arrivals(int count)
{
    while (board->arrived < count)
        nap();
    CHECK_EQ(board->arrived, count);
}

/* The root's part: when `count` others have arrived, checkpoint_here; then their turn 1. Its parent is whoever restored it. */
static inline void checkpoint_tree(int count)
{
    await_arrivals(count);
    struct who before = who_am_i();
    checkpoint_here(1);
    struct who after = who_am_i();
    after.ppid = before.ppid;
    check_same_who(&before, &after);
    board->turn = 1;
}

/* fork(2), or with flags of clone(2) that need no stack; `body` may return, the exit status is then 0. */
static inline pid_t spawn_with(long flags, void (*body)(int), int arg)
{
    pid_t pid = flags ? syscall(SYS_clone, flags, NULL, NULL, NULL, NULL) : fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body(arg);
        _exit(0);
    }
    return pid;
}

static inline pid_t spawn(void (*body)(int), int arg)
{
    return spawn_with(0, body, arg);
}

/* Waits for the child to end; its status is this one. */
static inline void reap(pid_t pid, int status)
{
    int got = -1;
    CHECK_EQ(waitpid(pid, &got, 0), pid);
    CHECK_EQ(got, status);
}

static inline void no_children_left(void)
{
    CHECK(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD);
}

/* Waits until the process is in this state (R, S, T, Z ...). */
static inline void await_state(pid_t pid, char state)
{
    while (who_is(pid).state != state)
        pause_briefly();
}

/* Waits until the caller's parent has died and it has been given to this one. */
static inline void await_parent(pid_t pid)
{
    while (getppid() != pid)
        pause_briefly();
}

/* Waits until another process blocks in system call `number`. */
static inline void wait_blocked_process(pid_t pid, long number)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    for (ssize_t len = 0;; pause_briefly()) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        len = read(fd, text, sizeof text - 1);
        close(fd);
        text[len > 0 ? len : 0] = 0;
        if (len > 0 && text[0] != 'r' && strtol(text, NULL, 10) == number)
            return;
    }
}

static inline void count_signal(int number)
{
    signals_seen[number]++;
}

static inline void count_signals(int number)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(number, &action, NULL) == 0);
}

/* kcmp(2): 0 if the two processes (or threads) share the thing. */
enum { SAME_FILE, SAME_VM, SAME_FILES, SAME_FS, SAME_SIGHAND };
static inline long compare(pid_t one, pid_t two, int what, long a, long b)
{
    return syscall(SYS_kcmp, one, two, what, a, b);
}

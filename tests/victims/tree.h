/*
 * Several processes in one victim. The root speaks the protocol. The others have numbered places on
 * a board, a file that all of them map. Each process arrives, waits until the root's checkpoint is
 * over, and checks its identity again. Turns 2, 3 ... order the steps that follow.
 */
#include "victim.h"
#include <sys/wait.h>

enum { PLACES = 256 };

/*
 * The identity of a process. CHECKs compare what system calls return in the process with what /proc
 * shows to every process.
 */
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

/* Makes the board. The root calls this before it forks. */
static inline void board_make(void)
{
    int fd = open("board", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, sizeof *board) == 0);
    board = mmap(NULL, sizeof *board, RW, MAP_SHARED, fd, 0);
    CHECK(board != MAP_FAILED && close(fd) == 0);
    board->root = getpid();
}

/* Sleeps a little longer than pause_briefly, because many processes may wait at once. */
static inline void nap(void)
{
    struct timespec some = {0, 5000000};
    nanosleep(&some, NULL);
}

/* Reads /proc/PID/stat of any process, even a zombie. Uses no memory except the stack. */
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

/* Compares all fields except the state, which changes all the time. */
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

/* Takes the place. From now on the process may be checkpointed. */
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

/* Checks that the process at this place kept its identity. */
static inline void check_place(int place)
{
    struct who after = who_am_i();
    check_same_who(&board->who[place], &after);
}

/* The whole part of a child: arrive, wait until the checkpoint is over, check again. */
static inline void over_checkpoint(int place)
{
    arrive(place);
    await_turn(1);
    check_place(place);
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
}

/* Waits until `count` processes have checked again. The root changes nothing before that. */
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

/*
 * The part of the root: waits until `count` others have arrived, calls checkpoint_here, and starts
 * turn 1. Its own parent may change: after a restore it is the process that restored it.
 */
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

/* fork(2), or clone(2) with flags that need no stack. If `body` returns, the exit status is 0. */
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

/* Waits for the child to end, and checks its status. */
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

/* Waits until the caller's parent has ended and the caller has been given to process `pid`. */
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

/* kcmp(2): 0 if the two processes (or threads) share the object. */
enum { SAME_FILE, SAME_VM, SAME_FILES, SAME_FS, SAME_SIGHAND };
static inline long compare(pid_t one, pid_t two, int what, long a, long b)
{
    return syscall(SYS_kcmp, one, two, what, a, b);
}

/*
 * random_tree SEED: a tree of up to forty processes. Each takes random actions, driven by its own
 * generator. All write a table of their state before and after the checkpoint (random_table.h), and
 * the root compares the tables. The same seed repeats the same actions, with different pids.
 */
#include "random_table.h"
#include <dirent.h>
#include <grp.h>
#include <sys/time.h>

enum { PAGE = 4096, PROCESSES = 40 };

static uint64_t generator;
static char top[4096]; /* the victim's directory; processes change theirs */
static volatile int *expected; /* arrivals to wait for: counted before each fork */

/* splitmix64, the high bits. */
static long below(long limit)
{
    uint64_t z = generator += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) % limit;
}

static void live(int budget);

/* fork(2) that gives the child a generator of its own. */
static pid_t branch(void)
{
    uint64_t seed = below(1l << 60);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        generator = seed;
    return pid;
}

static void have_child(int budget)
{
    __atomic_add_fetch(expected, 1, __ATOMIC_SEQ_CST);
    if (branch() == 0)
        live(budget);
}

/* A child that ends at once and stays a zombie. It may leave an orphan behind. */
static void have_zombie(int budget)
{
    static const int numbers[] = {SIGKILL, SIGTERM, SIGHUP, 40, 64};
    siginfo_t info;
    int orphan = budget > 0 && below(2);
    if (orphan)
        __atomic_add_fetch(expected, 1, __ATOMIC_SEQ_CST);
    pid_t pid = branch();
    if (pid == 0) {
        pid_t self = getpid();
        if (below(3) == 0)
            setsid();
        else if (below(3) == 0)
            setpgid(0, 0);
        if (orphan && branch() == 0) {
            while (getppid() == self)
                pause_briefly();
            live(budget - 1);
        }
        if (below(2))
            _exit(below(256));
        for (int number = numbers[below(5)];; pause()) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, number);
            signal(number, SIG_DFL);
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            kill(self, number);
        }
    }
    CHECK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT) == 0 || errno == ECHILD);
    if (below(3) == 0)
        waitpid(pid, NULL, 0);
}

/* A stopped child. Its parent may or may not have looked at the stop. */
static void have_stopped(void)
{
    siginfo_t info;
    pid_t pid = branch();
    if (pid == 0) {
        if (below(2))
            setpgid(0, 0);
        while (board->turn < 3)
            raise(SIGSTOP);
        _exit(below(256));
    }
    await_state(pid, 'T');
    if (below(2))
        waitid(P_PID, pid, &info, WSTOPPED | WNOHANG);
}

static void move_between_groups(void)
{
    switch (below(4)) {
    case 0: setsid(); break; /* fails for a leader, which is as good */
    case 1: setpgid(0, 0); break;
    case 2: setpgid(0, getppid()); break;
    case 3: setpgid(0, getpgid(board->root)); break;
    }
}

static void use_file(void)
{
    static const int flags[] = {O_RDWR, O_RDWR | O_APPEND, O_WRONLY | O_NONBLOCK, O_RDONLY | O_CLOEXEC, O_RDWR | O_SYNC, O_PATH};
    char path[64], byte[64] = "some text that is written to files by processes that have them";
    int fd = below(FDS - 20) + 3;
    while (fd > 2 && fcntl(fd, F_GETFD) < 0)
        fd--; /* find one that is open */
    switch (below(6)) {
    case 0: case 1:
        snprintf(path, sizeof path, "file%ld", below(6));
        fd = open(path, flags[below(5)] | O_CREAT, 0666);
        if (fd >= 0)
            ftruncate(fd, 100 + below(100000)), lseek(fd, below(1000), SEEK_SET);
        break;
    case 2: if (fd > 2) dup3(fd, 3 + below(FDS - 3), below(2) ? O_CLOEXEC : 0); break;
    case 3: if (fd > 2) close(fd); break;
    case 4: if (fd > 2 && write(fd, byte, below(sizeof byte)) < 0) errno = 0; break;
    case 5: fd = open(below(2) ? "." : "/dev/zero", O_RDONLY); break;
    }
}

static void note_region(char *at, size_t len)
{
    if (at != MAP_FAILED && region_count < REGIONS)
        regions[region_count++] = (struct region){at, len};
}

/*
 * A part of a region was unmapped, so its place may be used by any other mapping, even a stack. The
 * rest behind it becomes a region of its own.
 */
static void forget(struct region *region, size_t from, size_t part)
{
    size_t behind = region->len - from - part;
    char *rest = region->at + from + part;
    if (from)
        region->len = from;
    else
        *region = regions[--region_count];
    if (behind)
        note_region(rest, behind);
}

/*
 * Writes to some pages of a region, if they exist and are writable. Writes go through
 * /proc/self/mem, so they fail instead of raising SIGSEGV.
 */
static void scribble(struct region *region)
{
    int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    for (int n = below(20); mem >= 0 && n >= 0; n--) {
        uint64_t value = below(1l << 60);
        off_t at = (off_t)(intptr_t)region->at + below(region->len / 8) * 8;
        if (pwrite(mem, &value, sizeof value, at) < 0)
            errno = 0;
    }
    close(mem);
}

static void use_memory(void)
{
    static const int prots[] = {PROT_NONE, PROT_READ, RW, RW, PROT_READ | PROT_EXEC};
    size_t len = (1 + below(64)) * PAGE;
    struct region *some = region_count ? &regions[below(region_count)] : NULL;
    size_t from = some ? below(some->len / PAGE) * PAGE : 0, part = some ? (1 + below((some->len - from) / PAGE)) * PAGE : 0;
    int fd;
    switch (below(10)) {
    case 0: case 1: note_region(mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), len); break;
    case 2: note_region(mmap(NULL, len, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), len); break;
    case 3:
        fd = openat(AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC);
        note_region(mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0), 4 * PAGE);
        close(fd);
        break;
    case 4: if (some) mprotect(some->at + from, part, prots[below(5)]); break;
    case 5: if (some) madvise(some->at + from, part, MADV_DONTNEED); break;
    case 6:
        if (some && below(3) == 0 && munmap(some->at + from, part) == 0)
            forget(some, from, part);
        break;
    case 7:
        if (some && region_count < REGIONS) {
            char *to = mremap(some->at + from, part, part + below(3) * PAGE, MREMAP_MAYMOVE);
            if (to != MAP_FAILED)
                forget(some, from, part), note_region(to, part);
        }
        break;
    default: if (some) scribble(some); break;
    }
}

static void nothing(int number)
{
}

static void use_signals(void)
{
    int number = below(3) ? 34 + below(30) : below(2) ? SIGUSR1 : SIGWINCH;
    struct sigaction action = {.sa_handler = below(3) ? nothing : SIG_IGN, .sa_flags = below(2) ? SA_RESTART : SA_NODEFER};
    union sigval value = {.sival_int = below(1 << 30)};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    CHECK(sigaction(number, &action, NULL) == 0);
    if (below(2)) {
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && sigqueue(getpid(), number, value) == 0);
        if (below(2))
            raise(number);
    }
}

static void *idle(void *arg)
{
    threads[(long)arg] = gettid();
    await_turn(4);
    return NULL;
}

static void change_itself(void)
{
    char name[32];
    struct rlimit limit = {200 + below(100), 400};
    struct itimerval timer = {{below(2), 5}, {5000 + below(1000), 0}};
    gid_t groups[] = {below(100), 1000 + below(100)};
    switch (below(10)) {
    case 0: snprintf(name, sizeof name, "name %ld", below(1l << 40)); prctl(PR_SET_NAME, name); break;
    case 1: umask(below(01000)); break;
    case 2: snprintf(name, sizeof name, "dir%ld", below(3)); mkdir(name, 0777); chmod(name, 0777); if (chdir(name) < 0) errno = 0; break;
    case 3: setrlimit(RLIMIT_NOFILE, &limit); break;
    case 4: prctl(PR_SET_CHILD_SUBREAPER, getpid() == board->root || below(2)); break;
    case 5: prctl(PR_SET_PDEATHSIG, SIGWINCH); break;
    case 6: setitimer(ITIMER_REAL, &timer, NULL); break;
    case 7: if (nice(below(5)) < 0) errno = 0; break;
    case 8:
        if (setgroups(2, groups) == 0 && setresgid(1 + below(9), 2 + below(9), 3) == 0 && setresuid(1 + below(9), 0, below(9)) == 0)
            prctl(PR_SET_DUMPABLE, 1);
        break;
    case 9:
        if (thread_count < THREADS) {
            start(idle, (void *)(long)thread_count);
            while (!threads[thread_count])
                pause_briefly();
            thread_count++;
        }
        break;
    }
}

/* Takes some random actions. `budget` limits the number of descendants. */
static void act(int budget)
{
    memset((void *)threads, 0, sizeof threads); /* fork(2) copies no other threads */
    thread_count = 0;
    for (int n = 10 + below(25); n > 0; n--) {
        int share = budget > 0 ? below(budget) : 0;
        switch (below(12)) {
        case 0: case 1: case 2: if (budget > 0) have_child(share), budget -= share + 1; break;
        case 3: if (budget > 0) have_zombie(share), budget -= share + 1; break;
        case 4: if (below(2)) have_stopped(); break;
        case 5: move_between_groups(); break;
        case 6: case 7: use_file(); break;
        case 8: case 9: use_memory(); break;
        case 10: use_signals(); break;
        case 11: change_itself(); break;
        }
    }
}

/*
 * Waits until `count` is `times` the expected number. That number is final once all are counted: a
 * counted process makes no more children.
 */
static void await_all(volatile int *count, int times)
{
    for (int seen; seen = *count, seen != times * *expected;)
        nap();
}

/* Ends after all its children have ended. Stopped children are continued first. */
static void end_well(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, __WALL | WNOHANG)) >= 0 || errno == EINTR)
        if (pid == 0) {
            for (pid_t child = 0; (child = next_child(child)) > 0;)
                kill(child, SIGCONT);
            nap();
        }
    CHECK_EQ(errno, ECHILD);
}

static void live(int budget)
{
    act(budget);
    write_table(top, "first"); /* grows the stack before the tables that are compared */
    __atomic_add_fetch(&board->arrived, 1, __ATOMIC_SEQ_CST);
    await_turn(1);
    write_table(top, "before");
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
    await_turn(2);
    write_table(top, "after");
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
    await_turn(3);
    end_well();
    _exit(0);
}

/* Compares the two tables of every process, and prints the first line that differs. */
static void compare_tables(void)
{
    int processes = 0;
    DIR *dir = opendir(top);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4400];
        if (strncmp(entry->d_name, "before.", 7) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", top, entry->d_name);
        char *before = slurp(path, NULL);
        snprintf(path, sizeof path, "%s/after.%s", top, entry->d_name + 7);
        char *after = slurp(path, NULL), *line = before, *other = after;
        for (; *line && strcspn(line, "\n") == strcspn(other, "\n") && !strncmp(line, other, strcspn(line, "\n") + 1);)
            line += strcspn(line, "\n") + 1, other += strcspn(other, "\n") + 1;
        if (strcmp(line, other) != 0)
            dprintf(1, "FAIL process %s\n- %.*s\n+ %.*s\n", entry->d_name + 7, (int)strcspn(line, "\n"), line,
                    (int)strcspn(other, "\n"), other);
        free(before);
        free(after);
        processes++;
    }
    CHECK_EQ(processes, *expected + 1);
    closedir(dir);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && getcwd(top, sizeof top));
    generator = strtoull(argv[1], NULL, 10);
    go_dir = top;
    CHECK(strdup(top)); /* make the heap now, so that every process has it */
    signal(SIGHUP, SIG_IGN); /* orphaned groups with stopped members get SIGHUP */
    board_make();
    expected = (volatile int *)&board->word[0];
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    act(PROCESSES - 1);
    write_table(top, "first");
    await_all(&board->arrived, 1);
    for (int n = 0; n < 4; n++)
        nap(); /* children that an orphaned group woke stop again */
    board->turn = 1;
    write_table(top, "before");
    await_all(&board->checked, 1);

    checkpoint_here(1);

    board->turn = 2;
    write_table(top, "after");
    await_all(&board->checked, 2);
    compare_tables();
    board->turn = 3;
    end_well();
    return done();
}

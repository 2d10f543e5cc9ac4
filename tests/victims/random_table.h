/*
 * The state that a process can read about itself, as text. Two tables of a process that did nothing
 * in between are equal, byte for byte.
 */
#include "tree.h"
#include <sys/resource.h>

enum { TABLE_ROOM = 1 << 18, FDS = 128, REGIONS = 64, THREADS = 4 };

/* A range that was mapped once. The table records what its pages hold now, and which are gone. */
struct region { char *at; size_t len; };

static struct region regions[REGIONS];
static int region_count, thread_count;
static volatile pid_t threads[THREADS];
static char table[TABLE_ROOM], file_text[TABLE_ROOM];
static size_t used;

/* Making a table allocates no memory, because the next table would show the difference. */
#define TELL(...) (used += snprintf(table + used, TABLE_ROOM - used, __VA_ARGS__))

static const char *text_of(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    for (ssize_t n; fd >= 0 && (n = read(fd, file_text + len, sizeof file_text - 1 - len)) > 0;)
        len += n;
    file_text[len] = 0;
    close(fd);
    return file_text;
}

/* The lines of a /proc file that begin with one of the keys. */
static void tell_lines(const char *path, const char *const *keys)
{
    for (const char *line = text_of(path); line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        for (const char *const *key = keys; *key; key++)
            if (strncmp(line, *key, strlen(*key)) == 0)
                TELL("%.*s\n", (int)strcspn(line, "\n"), line);
}

static void tell_who(const char *what, struct who who)
{
    /*
     * Left out: the parent of the root, which is the process that restored it, and the exact state
     * of a living process, which changes all the time.
     */
    TELL("%s %d ppid %d pgid %d sid %d tty %lld %lld signal %lld name %s %s\n", what, who.pid,
         who.pid == board->root ? 0 : who.ppid, who.pgid, who.sid, who.tty, who.tpgid, who.exit_signal, who.comm,
         who.state == 'Z' ? "zombie" : who.state == 'T' ? "stopped" : "lives");
}

/* The child with the next higher pid, or 0 after the last. */
static pid_t next_child(pid_t before)
{
    char path[64], *at = file_text;
    pid_t next = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    text_of(path);
    for (pid_t pid; (pid = strtol(at, &at, 10)) > 0;)
        if (pid > before && (!next || pid < next))
            next = pid;
    return next;
}

static void tell_children(void)
{
    for (pid_t pid = 0; (pid = next_child(pid)) > 0;) {
        siginfo_t info = {0};
        waitid(P_PID, pid, &info, WEXITED | WSTOPPED | WCONTINUED | WNOWAIT | WNOHANG);
        tell_who("child", who_is(pid));
        TELL("  wait status: %d by uid %d, code %d status %d\n", info.si_pid, info.si_uid, info.si_code, info.si_status);
    }
}

static void tell_descriptors(void)
{
    char path[64], link[4096];
    for (int fd = 0; fd < FDS; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        int same = 0;
        while (same < fd && compare(getpid(), getpid(), SAME_FILE, fd, same) != 0)
            same++;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, link, sizeof link);
        /* The position of "out" is left out: each "ready" moves it. */
        long long at = same == 1 ? 0 : lseek(fd, 0, SEEK_CUR);
        TELL("fd %d %.*s cloexec %d flags %#o at %lld like %d, root's %d\n", fd, (int)len, link, fcntl(fd, F_GETFD),
             fcntl(fd, F_GETFL), at, same,
             compare(getpid(), board->root, SAME_FILE, fd, fd) == 0);
    }
}

/*
 * /proc/self/maps without device and inode: a recreated object has new ones. Neighbours of one kind
 * count as one mapping. Whether the kernel merges them depends on the order of forks.
 */
static void tell_maps(void)
{
    char kind[544] = "";
    unsigned long start = 0, end = 0, next = 0, from, upto, offset;
    for (const char *line = text_of("/proc/self/maps"); line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char prot[8], device[32], inode[32], name[512] = "", this[544];
        sscanf(line, "%lx-%lx %7s %lx %31s %31s %511[^\n]", &from, &upto, prot, &offset, device, inode, name);
        if (line[strcspn(line, "\n") - 1] == ' ')
            name[0] = 0; /* the scan ran into the next line */
        snprintf(this, sizeof this, "%s %s", prot, name);
        int anonymous = strcmp(inode, "0") == 0;
        if (from != end || strcmp(this, kind) != 0 || (!anonymous && offset != next)) {
            if (kind[0])
                TELL("map %lx-%lx %s\n", start, end, kind);
            TELL("map from %lx, offset %lx\n", from, anonymous ? 0 : offset);
            start = from;
            strcpy(kind, this);
        }
        end = upto;
        next = offset + (upto - from);
    }
    TELL("map %lx-%lx %s\n", start, end, kind);
}

/* A checksum of each region. Pages that cannot be read are counted. */
static void tell_memory(void)
{
    static unsigned char page[4096];
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    CHECK(mem >= 0);
    for (int n = 0; n < region_count; n++) {
        uint64_t sum = 1469598103934665603ull, gone = 0;
        for (size_t at = 0; at < regions[n].len; at += sizeof page)
            if (pread(mem, page, sizeof page, (off_t)(intptr_t)regions[n].at + at) != sizeof page)
                gone++, sum = sum * 31 + 7;
            else
                for (size_t byte = 0; byte < sizeof page; byte++)
                    sum = (sum ^ page[byte]) * 1099511628211ull;
        TELL("memory %p +%zx sum %016llx gone %llu\n", regions[n].at, regions[n].len, (long long)sum, (long long)gone);
    }
    close(mem);
}

static void tell_signals(void)
{
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && (action.sa_handler || action.sa_flags))
            TELL("signal %d handler %p flags %#x mask %#lx\n", number, (void *)action.sa_handler, action.sa_flags,
                 *(long *)&action.sa_mask);
    }
    stack_t stack;
    CHECK(sigaltstack(NULL, &stack) == 0);
    TELL("stack %p %zu %d\n", stack.ss_sp, stack.ss_size, stack.ss_flags);
}

static void tell_rest(void)
{
    static const char *const keys[] = {"Name:", "Umask:", "Uid:", "Gid:", "Groups:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
                                       "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Threads:", "VmLck:", NULL};
    static const char *const thread_keys[] = {"Name:", "Pid:", "SigPnd:", "SigBlk:", NULL};
    static const char *const all[] = {"", NULL};
    char path[4096];
    tell_lines("/proc/self/status", keys);
    for (int n = 0; n < thread_count; n++) {
        snprintf(path, sizeof path, "/proc/self/task/%d/status", threads[n]);
        tell_lines(path, thread_keys);
    }
    tell_lines("/proc/self/limits", all);
    tell_lines("/proc/self/timers", all);
    ssize_t len = readlink("/proc/self/cwd", path, sizeof path);
    TELL("cwd %.*s\n", (int)len, path);
    int death = 0, subreaper = 0;
    CHECK(prctl(PR_GET_PDEATHSIG, &death) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0);
    TELL("death %d subreaper %d dumpable %d nice %d slack %d\n", death, subreaper, prctl(PR_GET_DUMPABLE),
         getpriority(PRIO_PROCESS, 0), prctl(PR_GET_TIMERSLACK));
}

static void make_table(void)
{
    used = 0;
    tell_who("process", who_am_i());
    tell_children();
    tell_descriptors();
    tell_maps();
    tell_memory();
    tell_signals();
    tell_rest();
    CHECK(used < TABLE_ROOM - 1);
}

/* Writes the table to DIR/NAME.PID. */
static inline void write_table(const char *dir, const char *name)
{
    char path[4096];
    make_table();
    snprintf(path, sizeof path, "%s/%s.%d", dir, name, getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, table, used) == (ssize_t)used && close(fd) == 0);
}

/*
 * holder KIND: holds one object of a kind that ckptfs may refuse to checkpoint, and continues
 * undisturbed afterwards.
 */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int segment = -1;
static volatile int semaphores = -1;

static void owe_one(void)
{
    struct sembuf one = {0, 1, SEM_UNDO};
    int set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    CHECK(set >= 0 && semop(set, &one, 1) == 0);
    semaphores = set;
}

static void *owes_alone(void *unused)
{
    CHECK(unshare(CLONE_SYSVSEM) == 0);
    owe_one();
    for (;;)
        pause();
    return unused;
}

static void *leaves_network(void *left)
{
    *(volatile int *)left = unshare(CLONE_NEWNET) == 0 ? 1 : -1;
    for (;;)
        pause();
    return left;
}

/* Unmaps the vDSO, or only its data. */
static void unmap_vdso(int only_data)
{
    char line[512];
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vvar]") || (!only_data && strstr(line, "[vdso]")))
            CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2 && munmap((void *)start, end - start) == 0);
    fclose(maps);
}

/* A namespace that no process is in. */
static int other_namespace(void)
{
    char name[64], byte;
    int told[2], fd;
    CHECK(pipe(told) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWUTS) == 0)
            CHECK(write(told[1], "x", 1) == 1);
        for (close(told[1]);;)
            pause();
    }
    CHECK(close(told[1]) == 0);
    snprintf(name, sizeof name, "/proc/%d/ns/uts", child);
    fd = read(told[0], &byte, 1) == 1 ? open(name, O_RDONLY) : -1;
    CHECK(close(told[0]) == 0 && kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    return fd;
}

/* A lease that another process waits for. The kernel takes it away after 45 seconds. */
static int broken_lease(void)
{
    int fd = open("leased", O_RDONLY | O_CREAT, 0600), status;
    CHECK(fd >= 0 && signal(SIGIO, SIG_IGN) != SIG_ERR && fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(open("leased", O_WRONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return fd;
}

/* As many mappings as the kernel allows. */
static void fill_maps(void)
{
    enum { MOST = 1 << 17 };
    char *at = mmap(NULL, MOST * 4096L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    for (long n = 1; n < MOST && mprotect(at + n * 4096, 4096, PROT_READ) == 0; n += 2)
        ;
    while (mmap(NULL, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        ;
}

static volatile int has_made_timer;

/* Makes a timer on its own CPU clock. It ends then, or stays. */
static void *has_timer(void *ends)
{
    timer_t timer;
    struct itimerspec later = {{0, 0}, {5000, 0}};
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    clockid_t own;
    CHECK(pthread_getcpuclockid(pthread_self(), &own) == 0);
    CHECK(timer_create(ends ? own : CLOCK_THREAD_CPUTIME_ID, &none, &timer) == 0);
    CHECK(timer_settime(timer, 0, &later, NULL) == 0);
    for (has_made_timer = 1; !ends;)
        pause();
    return NULL;
}

static void hold(const char *kind)
{
    int pair[2] = {-1, -1}, fd = 0;
    if (strcmp(kind, "unix") == 0)
        CHECK((fd = socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) == 0);
    else if (strcmp(kind, "tcp") == 0)
        CHECK((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    else if (strcmp(kind, "udp") == 0)
        CHECK((fd = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
    else if (strcmp(kind, "protection_key") == 0) /* not every processor has them */
        fd = pkey_alloc(0, 0) == 1 ? pkey_mprotect(map(4096, RW), 4096, PROT_READ, 1) : -1;
    else if (strcmp(kind, "inotify_unread") == 0)
        CHECK((fd = inotify_init()) >= 0 && inotify_add_watch(fd, ".", IN_CREATE) >= 0 && mkdir("dir", 0700) == 0);
    else if (strcmp(kind, "memfd") == 0)
        CHECK((fd = memfd_create("memfd", 0)) >= 0);
    else if (strcmp(kind, "pidfd") == 0)
        CHECK((fd = syscall(SYS_pidfd_open, getpid(), 0)) >= 0);
    else if (strcmp(kind, "ptmx") == 0)
        CHECK((fd = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0);
    else if (strcmp(kind, "unlinked_hidden") == 0) {
        CHECK(mkdir("dir", 0700) == 0 && (fd = open("gone", O_RDWR | O_CREAT, 0600)) >= 0);
        CHECK(link("gone", "dir/other") == 0 && unlink("gone") == 0);
    } else if (strcmp(kind, "path_gone") == 0)
        CHECK(mkfifo("gone", 0600) == 0 && (fd = open("gone", O_PATH)) >= 0 && unlink("gone") == 0);
    else if (strcmp(kind, "fifo_elsewhere") == 0) {
        CHECK(mkdir("dir", 0700) == 0 && mkfifo("gone", 0600) == 0 && (fd = open("gone", O_RDWR)) >= 0);
        CHECK(link("gone", "dir/other") == 0 && unlink("gone") == 0);
    } else if (strcmp(kind, "fdinfo") == 0)
        CHECK((fd = open("/proc/self/fdinfo/1", O_RDONLY)) >= 0);
    else if (strcmp(kind, "fd_link") == 0)
        CHECK((fd = open("/proc/self/fd/1", O_PATH | O_NOFOLLOW)) >= 0);
    else if (strcmp(kind, "hung_up") == 0) {
        /* Descriptor 3 is the controlling terminal, opened by the harness. */
        signal(SIGHUP, SIG_IGN);
        CHECK(isatty(3) && vhangup() == 0 && write(3, "x", 1) == -1 && errno == EIO);
    } else if (strcmp(kind, "notification_pipe") == 0)
        fd = pipe2(pair, O_EXCL); /* O_NOTIFICATION_PIPE */
    else if (strcmp(kind, "hidden_lock") == 0) {
        CHECK((fd = open("data", O_RDWR | O_CREAT, 0600)) >= 0 && ftruncate(fd, 4096) == 0 && flock(fd, LOCK_EX) == 0);
        CHECK(mmap(NULL, 4096, RW, MAP_SHARED, fd, 0) != MAP_FAILED && close(fd) == 0);
        /* A second mapping: nothing shows which of the two has the lock. */
        CHECK((fd = open("data", O_RDWR)) >= 0 && mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    } else if (strcmp(kind, "lease_broken") == 0)
        fd = broken_lease();
    else if (strcmp(kind, "other_namespace") == 0)
        fd = other_namespace();
    else if (strcmp(kind, "no_vdso") == 0 || strcmp(kind, "vdso_part") == 0)
        unmap_vdso(strcmp(kind, "vdso_part") == 0);
    else if (strcmp(kind, "crowded") == 0)
        fill_maps();
    else if (strcmp(kind, "message_queue") == 0) {
        fd = syscall(SYS_mq_open, "ckptfs-victim", O_RDWR | O_CREAT, 0600, NULL);
        CHECK(fd < 0 || syscall(SYS_mq_unlink, "ckptfs-victim") == 0);
    } else if (strcmp(kind, "secret_memory") == 0)
        fd = syscall(447 /* memfd_secret */, 0);
    else if (strcmp(kind, "secret_mapping") == 0) {
        if ((fd = syscall(447, 0)) >= 0)
            CHECK(ftruncate(fd, 4096) == 0 && mmap(NULL, 4096, RW, MAP_SHARED, fd, 0) != MAP_FAILED && close(fd) == 0);
    } else if (strcmp(kind, "tracer_file") == 0) {
        /* Without a name as well, so that no mount is left. */
        CHECK(mkdir("dir", 0700) == 0);
        if ((fd = mount("none", "dir", "tracefs", 0, NULL)) == 0)
            CHECK((fd = open("dir/README", O_RDONLY)) >= 0 && umount2("dir", MNT_DETACH) == 0);
    } else if (strcmp(kind, "memfd_lease") == 0) {
        /*
         * The memfd is opened a second time, because the kernel does not count the first
         * description as a writer and refuses it the lease.
         */
        int first = memfd_create("leased", 0);
        CHECK((fd = open("/proc/self/fd/3", O_RDWR)) >= 0 && first == 3 && close(first) == 0);
        CHECK(fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
    } else if (strcmp(kind, "signal_parent") == 0)
        CHECK((fd = open("/dev/null", O_RDWR)) >= 0 && fcntl(fd, F_SETOWN, getppid()) == 0);
    else if (strcmp(kind, "dnotify") == 0)
        CHECK((fd = open(".", O_RDONLY)) >= 0 && fcntl(fd, F_NOTIFY, DN_DELETE) == 0);
    else if (strcmp(kind, "child") == 0) {
        if ((fd = fork()) == 0)
            for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
                pause();
    } else if (strcmp(kind, "zombie") == 0) {
        if ((fd = fork()) == 0)
            _exit(3);
        siginfo_t info;
        CHECK(waitid(P_PID, fd, &info, WEXITED | WNOWAIT) == 0);
    } else if (strcmp(kind, "shared_memory") == 0)
        CHECK(mmap(NULL, 8192, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    else if (strcmp(kind, "sysv_huge") == 0) {
        /* The segment disappears with its last attachment, however this victim ends. */
        fd = segment = shmget(IPC_PRIVATE, 2 << 20, IPC_CREAT | SHM_HUGETLB | SHM_NORESERVE | 0600);
        if (fd >= 0)
            CHECK(shmat(segment, NULL, 0) != (void *)-1 && shmctl(segment, IPC_RMID, NULL) == 0);
    } else if (strcmp(kind, "undo_of_two") == 0) {
        /* Both processes share one undo list. It is undone when the second process ends. */
        owe_one();
        if ((fd = syscall(SYS_clone, CLONE_SYSVSEM | SIGCHLD, NULL, NULL, NULL, NULL)) == 0)
            for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
                pause();
    } else if (strcmp(kind, "undo_of_thread") == 0) {
        start(owes_alone, NULL);
        while (semaphores < 0)
            pause_briefly();
    } else if (strcmp(kind, "timer_of_thread") == 0) {
        start(has_timer, NULL);
        while (!has_made_timer)
            pause_briefly();
    } else if (strcmp(kind, "timer_of_ended") == 0)
        join(start(has_timer, (void *)1));
    else if (strcmp(kind, "pid_for_children") == 0)
        fd = unshare(CLONE_NEWPID); /* The first child becomes init of the namespace; see main */
    else if (strcmp(kind, "time_for_children") == 0)
        fd = unshare(CLONE_NEWTIME);
    else if (strcmp(kind, "time_apart") == 0) {
        int ready[2];
        fd = pipe(ready);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            fd = unshare(CLONE_NEWTIME);
            fd |= setns(open("/proc/self/ns/time_for_children", O_RDONLY), CLONE_NEWTIME);
            for (close(ready[1]); fd == 0;)
                pause();
            _exit(1);
        }
        close(ready[1]);
        fd |= read(ready[0], ready, 1);
        close(ready[0]);
    } else if (strcmp(kind, "thread_net") == 0) {
        static volatile int left;
        start(leaves_network, (void *)&left);
        while (!left)
            pause_briefly();
        fd = left;
    } else if (strcmp(kind, "io_uring") == 0) {
        char params[120] = {0};
        fd = syscall(SYS_io_uring_setup, 4, params);
    } else if (strcmp(kind, "userfaultfd") == 0)
        fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    else if (strcmp(kind, "seccomp") == 0) {
        /*
         * These system calls kill the process. The victim never makes them, but a checkpoint that
         * runs calls inside the process might.
         */
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 3, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 2, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        };
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    } else
        CHECK(!"a known kind");
    if (fd < 0) { /* some kernels are built without this kind */
        dprintf(1, "unavailable\n");
        exit(done());
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    hold(argv[1]);
    checkpoint_here(1);
    if (strcmp(argv[1], "pid_for_children") == 0) {
        /*
         * The new namespace has had no process yet. The end of its first process, its init, would
         * have closed it.
         */
        int status;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(getpid() == 1 ? 0 : 1);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    if (semaphores >= 0)
        CHECK(semctl(semaphores, 0, IPC_RMID) == 0);
    return done();
}

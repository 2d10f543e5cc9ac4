/*
 * File leases (F_SETLEASE) for reading and for writing. A dump does not break them. An open by
 * another process does, and the lease holder gets the configured signal.
 */
#include "victim.h"
#include <sys/wait.h>

static volatile int told[65], through[65];

static void handler(int signal, siginfo_t *info, void *unused)
{
    (void)unused;
    told[signal]++;
    through[signal] = info->si_code > 0 ? info->si_fd : -1;
}

/* Another process opens the file. Returns 1 if a lease would have made it wait. */
static int others_open(const char *path, int flags)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(open(path, flags | O_NONBLOCK) >= 0 ? 0 : errno == EWOULDBLOCK ? 1 : 2);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status);
}

int main(void)
{
    CHECK(close(open("read", O_WRONLY | O_CREAT, 0600)) == 0);
    int reads = open("read", O_RDONLY), writes = open("write", O_RDWR | O_CREAT, 0600), shares = dup(writes);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGIO, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0);
    CHECK(fcntl(reads, F_SETLEASE, F_RDLCK) == 0 && fcntl(writes, F_SETLEASE, F_WRLCK) == 0);
    CHECK(fcntl(writes, F_SETSIG, SIGRTMIN) == 0);
    int flags = fcntl(writes, F_GETFL);

    checkpoint_here(1);

    CHECK(!told[SIGIO] && !told[SIGRTMIN]);
    CHECK(fcntl(reads, F_GETLEASE) == F_RDLCK && fcntl(writes, F_GETLEASE) == F_WRLCK);
    CHECK(fcntl(shares, F_GETLEASE) == F_WRLCK && fcntl(shares, F_GETSIG) == SIGRTMIN && fcntl(reads, F_GETSIG) == 0);
    CHECK_EQ(fcntl(writes, F_GETFL), flags);
    CHECK(fcntl(writes, F_GETOWN) == getpid() && fcntl(reads, F_GETOWN) == getpid());
    CHECK(others_open("read", O_RDONLY) == 0 && !told[SIGIO]);
    CHECK(others_open("read", O_WRONLY) == 1 && told[SIGIO] == 1);
    CHECK(others_open("write", O_RDONLY) == 1 && told[SIGRTMIN] == 1);
    CHECK_EQ(through[SIGRTMIN], writes);
    CHECK(fcntl(reads, F_SETLEASE, F_UNLCK) == 0 && fcntl(shares, F_SETLEASE, F_UNLCK) == 0);
    CHECK(others_open("read", O_WRONLY) == 0 && others_open("write", O_RDWR) == 0);
    return done();
}

/*
 * F_SETOWN, F_SETOWN_EX and F_SETSIG of a description. The owner is a process, a thread, a group, a
 * process that has ended, or is set with another user's ids.
 */
#include "victim.h"
#include <sys/wait.h>

#define F_GETOWNER_UIDS 17

static int fds[7];
static volatile pid_t thread_id;
static volatile int over;

static void *other(void *unused)
{
    for (thread_id = gettid(); !over;)
        pause_briefly();
    return unused;
}

static struct f_owner_ex owner(int n)
{
    struct f_owner_ex got = {-1, -1};
    CHECK(fcntl(fds[n], F_GETOWN_EX, &got) == 0);
    return got;
}

int main(void)
{
    for (int n = 0; n < 7; n++)
        CHECK((fds[n] = open(n == 5 ? "/dev/null" : "data", O_RDONLY | O_CREAT | O_CLOEXEC, 0600)) >= 0);
    CHECK(getpgrp() == getpid());
    pid_t gone = fork();
    if (gone == 0)
        pause();
    pthread_t thread = start(other, NULL);
    while (!thread_id)
        pause_briefly();
    struct f_owner_ex tid = {F_OWNER_TID, thread_id}, group = {F_OWNER_PGRP, getpid()}, dead = {F_OWNER_PID, gone};
    CHECK(fcntl(fds[0], F_SETOWN, getpid()) == 0 && fcntl(fds[0], F_SETSIG, SIGRTMAX) == 0);
    CHECK(fcntl(fds[1], F_SETOWN_EX, &tid) == 0 && fcntl(fds[1], F_SETSIG, SIGIO) == 0);
    CHECK(fcntl(fds[2], F_SETOWN_EX, &group) == 0 && fcntl(fds[3], F_SETOWN_EX, &dead) == 0);
    /* The raw system call changes the ids of this thread only. */
    CHECK(syscall(SYS_setresuid, 1234, 4321, 0) == 0 && fcntl(fds[4], F_SETOWN, getpid()) == 0);
    CHECK(syscall(SYS_setresuid, 0, 0, 0) == 0 && fcntl(fds[5], F_SETSIG, SIGUSR1) == 0);
    CHECK(kill(gone, SIGKILL) == 0 && waitpid(gone, NULL, 0) == gone);

    checkpoint_here(1);

    uint32_t ids[2];
    CHECK(owner(0).type == F_OWNER_PID && owner(0).pid == getpid() && fcntl(fds[0], F_GETSIG) == SIGRTMAX);
    CHECK(owner(1).type == F_OWNER_TID && owner(1).pid == thread_id && fcntl(fds[1], F_GETSIG) == SIGIO);
    CHECK(owner(2).type == F_OWNER_PGRP && owner(2).pid == getpid() && fcntl(fds[2], F_GETSIG) == 0);
    CHECK(owner(3).type == F_OWNER_PID && owner(3).pid == 0);
    CHECK(owner(4).pid == getpid() && owner(5).pid == 0 && owner(6).pid == 0 && owner(6).type == 0);
    CHECK(fcntl(fds[5], F_GETSIG) == SIGUSR1 && fcntl(fds[6], F_GETSIG) == 0);
    CHECK(fcntl(fds[4], F_GETOWNER_UIDS, ids) == 0 && ids[0] == 1234 && ids[1] == 4321);
    CHECK(fcntl(fds[0], F_GETOWNER_UIDS, ids) == 0 && ids[0] == 0 && ids[1] == 0);
    over = 1;
    join(thread);
    return done();
}

/*
 * Guard pages (madvise(2), MADV_GUARD_INSTALL) raise SIGSEGV. They lie in shared mappings (of a
 * file, a memfd, a System V segment and anonymous memory) and in memory that fork(2) wipes. The
 * pages next to them keep their contents. After a guard is removed, the page of a shared mapping
 * shows its contents again.
 */
#include "victim.h"
#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/shm.h>

enum { GUARD_INSTALL = 102, GUARD_REMOVE = 103, PAGES = 8, COUNT = 7, WIPED = 6 };

static sigjmp_buf back;
static void *volatile fault;

static void handler(int n, siginfo_t *info, void *context)
{
    fault = info->si_addr;
    siglongjmp(back, 1);
}

static int faults(volatile char *at)
{
    fault = NULL;
    if (sigsetjmp(back, 1) == 0)
        (void)*at;
    return fault == at;
}

/* The segment is removed with its last attachment. */
static char *segment(void)
{
    int id = shmget(IPC_PRIVATE, PAGES * 4096, IPC_CREAT | 0600);
    char *at = shmat(id, NULL, 0);
    CHECK(id >= 0 && at != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0);
    return at;
}

static char *shared(int fd, int prot, int flags)
{
    CHECK(fd < 0 || ftruncate(fd, PAGES * 4096) == 0);
    for (int page = 0; fd >= 0 && page < PAGES; page++)
        CHECK(pwrite(fd, &(char){'a' + page}, 1, page * 4096) == 1);
    char *at = mmap(NULL, PAGES * 4096, prot, MAP_SHARED | flags, fd, 0);
    CHECK(at != MAP_FAILED);
    for (int page = 0; fd < 0 && page < PAGES; page++)
        at[page * 4096] = 'a' + page;
    return at;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    int file = open("data", O_RDWR | O_CREAT, 0600), memfd = memfd_create("guarded", 0);
    char *at[COUNT] = {shared(file, RW, 0), shared(file, PROT_READ, 0), shared(memfd, RW, 0), shared(-1, RW, MAP_ANONYMOUS),
                       shared(memfd, RW, 0), segment(), map(PAGES * 4096, RW)};
    for (int i = WIPED - 1; i <= WIPED; i++)
        for (int page = 0; page < PAGES; page++)
            at[i][page * 4096] = 'a' + page;
    for (int i = 0; i < COUNT; i++)
        if (madvise(at[i], 2 * 4096, GUARD_INSTALL) != 0 || madvise(at[i] + 7 * 4096, 4096, GUARD_INSTALL) != 0) {
            CHECK(errno == EINVAL);
            dprintf(1, "this kernel guards private memory alone\n");
            at[i] = NULL;
        }
    /* fork(2) does not copy this memory, so the checkpoint reads it in another way. */
    CHECK(!at[4] || madvise(at[4], PAGES * 4096, MADV_DONTFORK) == 0);
    CHECK(!at[WIPED] || madvise(at[WIPED], PAGES * 4096, MADV_WIPEONFORK) == 0);

    checkpoint_here(1);

    for (int i = 0; i < COUNT; i++)
        for (int page = 0; at[i] && page < PAGES; page++) {
            char *byte = at[i] + page * 4096;
            int guarded = page < 2 || page == 7;
            CHECK_EQ(faults(byte), guarded);
            CHECK(!guarded || madvise(byte, 4096, GUARD_REMOVE) == 0);
            CHECK_EQ(*byte, guarded && i == WIPED ? 0 : 'a' + page);
        }
    return done();
}

/*
 * System V shared memory: id, key, owner, creator, mode, lock, and an odd size with holes. It is
 * attached several times: read-only, in parts, and in divided parts.
 */
#include "victim.h"
#include "sysv_shm.h"

enum { SIZE = 64 * PAGE + 100 };

int main(void)
{
    CHECK(setegid(4321) == 0 && seteuid(1234) == 0);
    int id = shmget(key_of(0), SIZE, IPC_CREAT | IPC_EXCL | 0604);
    CHECK(seteuid(0) == 0 && setegid(0) == 0);
    int private = shmget(IPC_PRIVATE, 1, IPC_CREAT | SHM_NORESERVE | 0);
    CHECK(id >= 0 && private >= 0);
    struct shmid_ds set = stat_of(id);
    set.shm_perm.uid = 77, set.shm_perm.gid = 78, set.shm_perm.mode = 0451;
    CHECK(shmctl(id, IPC_SET, &set) == 0 && shmctl(id, SHM_LOCK, NULL) == 0);

    char *whole = shmat(id, NULL, 0), *again = shmat(id, NULL, SHM_RDONLY), *parts = shmat(id, NULL, 0);
    char *other = shmat(private, NULL, SHM_EXEC), *divided = shmat(private, NULL, 0);
    CHECK(whole != (void *)-1 && again != (void *)-1 && parts != (void *)-1 && other != (void *)-1 && divided != (void *)-1);
    strcpy(whole, "begin");
    strcpy(whole + 20 * PAGE, "middle");
    strcpy(whole + SIZE - 4, "end");
    *other = 'x';
    /*
     * The first pages of `parts` are unmapped, other mappings lie in its gaps, and it has more
     * pieces than it needs.
     */
    CHECK(munmap(parts, 2 * PAGE) == 0 && munmap(parts + 30 * PAGE, 4 * PAGE) == 0 && mprotect(parts + 40 * PAGE, PAGE, 0) == 0);
    char *stranger = mmap(parts, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *inside = mmap(parts + 31 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(stranger == parts && inside == parts + 31 * PAGE);
    strcpy(stranger, "stranger");
    strcpy(inside, "inside");
    for (int n = 10; n < 14; n++)
        CHECK(mprotect(parts + n * PAGE, PAGE, PROT_READ) == 0 && mprotect(parts + n * PAGE, PAGE, RW) == 0);
    CHECK(madvise(divided, PAGE, MADV_DONTFORK) == 0);

    struct shmid_ds before = stat_of(id), before_private = stat_of(private);
    CHECK(before.shm_nattch > 8);
    char *maps = attachments();

    checkpoint_here(1);

    check_same_segment(id, &before);
    check_same_segment(private, &before_private);
    check_same_attachments(maps);
    CHECK_EQ(shmget(key_of(0), 0, 0), id);
    CHECK(strcmp(whole, "begin") == 0 && strcmp(again + 20 * PAGE, "middle") == 0 && strcmp(parts + SIZE - 4, "end") == 0);
    CHECK(*other == 'x' && *divided == 'x' && strcmp(stranger, "stranger") == 0 && strcmp(inside, "inside") == 0);
    unsigned char resident[65];
    CHECK(mincore(whole, SIZE, resident) == 0 && (resident[0] & 1) && (resident[20] & 1) && !(resident[5] & 1));
    CHECK(mprotect(again, PAGE, RW) < 0 && errno == EACCES);
    strcpy(parts + 10 * PAGE, "still one");
    CHECK(strcmp(again + 10 * PAGE, "still one") == 0);
    if (fork() == 0) { /* all but `divided` is inherited, and counted */
        CHECK(mincore(divided, PAGE, resident) < 0 && errno == ENOMEM && mincore(other, PAGE, resident) == 0);
        CHECK_EQ(stat_of(private).shm_nattch, 3);
        _exit(0);
    }
    int status = -1;
    CHECK(wait(&status) > 0);
    CHECK_EQ(status, 0);
    /* One call detaches all parts of an attachment. */
    CHECK(shmdt(parts) == 0 && shmdt(whole) == 0 && shmdt(again) == 0);
    CHECK_EQ(stat_of(id).shm_nattch, 0);
    CHECK(shmdt(divided) == 0 && strcmp(stranger, "stranger") == 0 && strcmp(inside, "inside") == 0);
    CHECK_EQ(stat_of(private).shm_nattch, 1);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && shmctl(private, IPC_RMID, NULL) == 0);
    return done();
}

/* The visible state of a semaphore set, semctl(2). Include this after victim.h or tree.h. */
#include "sysv.h"
#include <sys/sem.h>

/* Does one operation. */
static inline int operate(int set, int n, int add, int flags)
{
    struct sembuf op = {.sem_num = n, .sem_op = add, .sem_flg = flags};
    return semop(set, &op, 1);
}

/* Makes a new set. Its owner is not its creator. */
static inline int new_set(key_t key, int count, int uid, int gid, int mode)
{
    int set = semget(key, count, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(set >= 0);
    remember('s', set);
    struct semid_ds stat = {.sem_perm = {.uid = uid, .gid = gid, .mode = mode}};
    CHECK(semctl(set, 0, IPC_SET, &stat) == 0);
    return set;
}

/* All properties except the times. The caller frees the text. */
static inline char *shown(int set)
{
    struct semid_ds stat;
    CHECK(semctl(set, 0, IPC_STAT, &stat) == 0);
    struct ipc_perm perm = stat.sem_perm;
    char *text = malloc(1 << 16), *at = text;
    at += sprintf(at, "key %x mode %o owner %u %u creator %u %u:", perm.__key, perm.mode, perm.uid, perm.gid, perm.cuid, perm.cgid);
    for (unsigned n = 0; n < stat.sem_nsems; n++) {
        int value = semctl(set, n, GETVAL), pid = semctl(set, n, GETPID), more = semctl(set, n, GETNCNT), zero = semctl(set, n, GETZCNT);
        at += sprintf(at, " %d/%d/%d/%d", value, pid, more, zero);
    }
    return text;
}

static inline void check_shown(int set, const char *before)
{
    char *after = shown(set);
    if (strcmp(before, after) != 0)
        dprintf(1, "FAIL before:\n%s\nafter:\n%s\n", before, after);
    CHECK(strcmp(before, after) == 0);
    free(after);
}

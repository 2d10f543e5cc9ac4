/*
 * A segment that is removed while attached keeps its id, and its mappings keep the key as their
 * name. The segment disappears with its last attachment.
 */
#include "victim.h"
#include "sysv_shm.h"

int main(void)
{
    int id = shmget(key_of(0), 3 * PAGE, IPC_CREAT | IPC_EXCL | 0600);
    char *at = shmat(id, NULL, 0);
    CHECK(id >= 0 && at != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0);
    /* The key is free, and another segment takes it. */
    int next = shmget(key_of(0), PAGE, IPC_CREAT | IPC_EXCL | 0600);
    char *other = shmat(next, NULL, 0);
    int gone = shmget(key_of(1), PAGE, IPC_CREAT | IPC_EXCL | 0600);
    char *unnamed = shmat(gone, NULL, 0);
    CHECK(next >= 0 && other != (void *)-1 && unnamed != (void *)-1 && shmctl(gone, IPC_RMID, NULL) == 0);
    strcpy(at, "the removed one");
    strcpy(other, "the next one");
    strcpy(unnamed, "without a successor");
    struct shmid_ds before = stat_of(id), before_next = stat_of(next), before_gone = stat_of(gone);
    CHECK(before.shm_perm.mode & SHM_DEST);

    checkpoint_here(1);

    check_same_segment(id, &before);
    check_same_segment(next, &before_next);
    check_same_segment(gone, &before_gone);
    char name[32], *maps = attachments();
    snprintf(name, sizeof name, "/SYSV%08x (deleted)", key_of(1));
    CHECK(strstr(maps, name) != NULL);
    CHECK(strcmp(at, "the removed one") == 0 && strcmp(other, "the next one") == 0);
    CHECK(strcmp(unnamed, "without a successor") == 0);
    CHECK(shmget(key_of(0), 0, 0) == next && shmget(key_of(1), 0, 0) < 0 && errno == ENOENT);
    char *second = shmat(id, NULL, 0); /* its id still works for attaching */
    CHECK(second != (void *)-1 && strcmp(second, "the removed one") == 0);
    CHECK(shmdt(second) == 0 && shmdt(at) == 0 && shmdt(unnamed) == 0);
    struct shmid_ds stat;
    CHECK(shmctl(id, IPC_STAT, &stat) < 0 && shmctl(gone, IPC_STAT, &stat) < 0);
    CHECK(shmctl(next, IPC_RMID, NULL) == 0);
    return done();
}

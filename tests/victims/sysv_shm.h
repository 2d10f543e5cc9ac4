/*
 * The visible state of a System V segment: shmctl(2) and the lines of maps. Include this after
 * victim.h or tree.h.
 */
#include "sysv.h"
#include <sys/shm.h>
#include <sys/wait.h>

enum { PAGE = 4096 };

static inline struct shmid_ds stat_of(int id)
{
    struct shmid_ds stat;
    CHECK(shmctl(id, IPC_STAT, &stat) == 0);
    return stat;
}

static inline void check_same_segment(int id, const struct shmid_ds *before)
{
    struct shmid_ds after = stat_of(id);
    CHECK_EQ(after.shm_perm.__key, before->shm_perm.__key);
    CHECK_EQ(after.shm_perm.mode, before->shm_perm.mode);
    CHECK_EQ(after.shm_perm.uid, before->shm_perm.uid);
    CHECK_EQ(after.shm_perm.gid, before->shm_perm.gid);
    CHECK_EQ(after.shm_perm.cuid, before->shm_perm.cuid);
    CHECK_EQ(after.shm_perm.cgid, before->shm_perm.cgid);
    CHECK_EQ(after.shm_segsz, before->shm_segsz);
    CHECK_EQ(after.shm_cpid, before->shm_cpid);
    CHECK_EQ(after.shm_nattch, before->shm_nattch);
}

/* The lines of maps that show attachments. The caller frees the text. */
static inline char *attachments(void)
{
    char *maps = slurp("/proc/self/maps", NULL), *all = calloc(1, 1 << 16);
    for (char *line = strtok(maps, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, "/SYSV"))
            strcat(strcat(all, line), "\n");
    free(maps);
    return all;
}

static inline void check_same_attachments(const char *before)
{
    char *after = attachments();
    if (strcmp(before, after) != 0)
        dprintf(1, "FAIL before:\n%safter:\n%s", before, after);
    CHECK(strcmp(before, after) == 0);
    free(after);
}

/*
 * A segment that a process outside the tree has attached too. That process gets the id of the
 * segment as its argument. A restore keeps the contents that the outside process wrote.
 */
#include "victim.h"
#include "sysv_shm.h"

int main(int argc, char **argv)
{
    int id = argc > 1 ? atoi(argv[1]) : shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
    char *at = shmat(id, NULL, 0);
    CHECK(id >= 0 && at != (void *)-1);
    if (argc == 1) {
        int fd = open("id", O_WRONLY | O_CREAT, 0600);
        CHECK(dprintf(fd, "%d", id) > 0 && close(fd) == 0);
        strcpy(at, "inside");
    }
    checkpoint_here(1);
    if (argc > 1)
        strcpy(at, "outside");
    checkpoint_here(2);
    CHECK(strcmp(at, "outside") == 0);
    CHECK_EQ(stat_of(id).shm_nattch, 2);
    checkpoint_here(3);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 || argc > 1);
    return done();
}

/*
 * What victims with System V objects share: keys that no other victim uses, and a list of objects
 * to remove if the victim fails (harness/ipc.rs).
 */
#include <sys/ipc.h>

/* Keys that belong to this victim only. */
static inline key_t key_of(int n)
{
    return 0x10000000 + getpid() * 16 + n;
}

/* Adds the object to the list. `kind` is the letter of ipcrm(1): s or q. */
static inline void remember(char kind, int id)
{
    int fd = open("ipc", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && dprintf(fd, "%c %d\n", kind, id) > 0 && close(fd) == 0);
}

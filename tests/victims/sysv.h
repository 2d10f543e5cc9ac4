/* What System V objects have in common: keys of this victim alone, and a list of what is to be removed should it fail (harness/ipc.rs). */
#include <sys/ipc.h>

/* Keys of this victim, that no other one has. */
static inline key_t key_of(int n)
{
    return 0x10000000 + getpid() * 16 + n;
}

/* `kind` is ipcrm(1)'s: s or q. */
static inline void remember(char kind, int id)
{
    int fd = open("ipc", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && dprintf(fd, "%c %d\n", kind, id) > 0 && close(fd) == 0);
}

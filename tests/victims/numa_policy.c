/*
 * NUMA policies of threads, set_mempolicy(2): bound to fixed nodes (MPOL_F_STATIC_NODES),
 * interleaved over nodes, and the default.
 */
#include "victim.h"
#include <linux/mempolicy.h>

static pthread_barrier_t all;
static int has;

/* Node 0 exists on every machine. */
static void *body(void *policy)
{
    unsigned long node = 1, seen[16] = {0};
    int mode = (int)(intptr_t)policy, now = -1;
    if (has)
        CHECK(syscall(SYS_set_mempolicy, mode, mode ? &node : NULL, mode ? 65 : 0) == 0);
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    if (has)
        CHECK(syscall(SYS_get_mempolicy, &now, seen, 1025, NULL, 0) == 0 && now == mode && seen[0] == (mode ? node : 0));
    return NULL;
}

int main(void)
{
    int now;
    /* Some kernels are built without it. */
    has = syscall(SYS_get_mempolicy, &now, NULL, 0, NULL, 0) == 0;
    CHECK(has || errno == ENOSYS);
    CHECK(pthread_barrier_init(&all, NULL, 4) == 0);
    pthread_t threads[3] = {
        start(body, (void *)(intptr_t)(MPOL_BIND | MPOL_F_STATIC_NODES)), start(body, (void *)MPOL_INTERLEAVE),
        start(body, (void *)MPOL_DEFAULT)};
    pthread_barrier_wait(&all);
    checkpoint_here(1);
    pthread_barrier_wait(&all);
    for (int n = 0; n < 3; n++)
        join(threads[n]);
    return done();
}

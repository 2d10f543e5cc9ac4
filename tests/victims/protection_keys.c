/*
 * pkeys(7): the allocated keys, with a gap, and the rights of each thread to their memory. Not
 * every processor has keys: there none can be allocated, before and after.
 */
#include "victim.h"

static volatile int turn;

static void *other(void *rights)
{
    int before = pkey_get(3);
    CHECK(pkey_set(3, PKEY_DISABLE_WRITE) == 0 && pkey_get(3) == PKEY_DISABLE_WRITE && before >= 0);
    turn = 1;
    while (turn < 2)
        pause_briefly();
    CHECK_EQ(pkey_get(3), PKEY_DISABLE_WRITE);
    return rights;
}

int main(void)
{
    if (pkey_alloc(0, 0) == -1) {
        CHECK(errno == ENOSPC || errno == EINVAL || errno == ENOSYS);
        checkpoint_here(1);
        CHECK(pkey_alloc(0, 0) == -1);
        return done();
    }
    CHECK(pkey_alloc(0, PKEY_DISABLE_ACCESS) == 2 && pkey_alloc(0, PKEY_DISABLE_ACCESS) == 3 && pkey_free(1) == 0);
    pthread_t thread = start(other, NULL);
    while (turn < 1)
        pause_briefly();
    int rights = pkey_get(1);

    checkpoint_here(1);

    CHECK(pkey_get(2) == PKEY_DISABLE_ACCESS && pkey_get(3) == PKEY_DISABLE_ACCESS && pkey_get(1) == rights);
    turn = 2;
    join(thread);
    CHECK(pkey_alloc(0, 0) == 1 && pkey_alloc(0, 0) == 4 && pkey_free(2) == 0 && pkey_free(2) == -1);
    char *page = map(4096, RW);
    CHECK(pkey_mprotect(page, 4096, PROT_READ, 3) == 0 && pkey_set(3, 0) == 0 && *page == 0);
    return done();
}

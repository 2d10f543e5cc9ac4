/* epoll(7): thousands of entries, some with the same number and data, and one number far off. */
#include "victim.h"
#include "epoll.h"
#include <sys/resource.h>

enum { MANY = 2500, FAR = 9000 };

int main(void)
{
    static int event[MANY];
    int poll = epoll_create1(0), pair[2];
    struct rlimit limit = {2 * FAR, 2 * FAR};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int n = 0; n < MANY; n++) {
        CHECK((event[n] = eventfd(0, 0)) >= 0);
        watch(poll, event[n], EPOLLIN | (n % 2 ? EPOLLET : 0), n);
    }
    CHECK(pipe(pair) == 0 && dup2(pair[0], FAR) == FAR);
    for (int n = 0; n < 3; n++) {
        watch(poll, FAR, EPOLLIN, MANY);
        CHECK(dup2(event[n], FAR) == FAR);
    }

    checkpoint_here(1);

    for (int n = 0; n < MANY; n += 7) {
        CHECK(write(event[n], &(uint64_t){1}, 8) == 8);
        /* The first two are watched by the far number as well. */
        CHECK_EQ(ready(poll), n < 2 ? 2 : 1);
        CHECK(events_[0].data.u64 == (uint64_t)n || events_[1].data.u64 == (uint64_t)n);
        CHECK(read(event[n], &(uint64_t){0}, 8) == 8 && ready(poll) == 0);
    }
    CHECK(write(pair[1], "x", 1) == 1 && ready(poll) == 1 && events_[0].data.u64 == MANY);
    return done();
}

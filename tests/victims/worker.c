/*
 * The standard victim of the mount's tests. It works from "ready 1" until "go.1" appears, and its
 * invariants hold all the time. It has 8 MiB of numbers at 0x200000000000, with every fourth page
 * untouched. It writes its progress into "count". It has no child, even while a checkpoint is
 * taken.
 */
#include "victim.h"
#include <sys/wait.h>

#define WORDS (1ul << 20)
static volatile int released;

static void *compute(void *arg)
{
    uint64_t sum = 0, turns = 0;
    for (; !released; turns++) {
        for (int n = 0; n < 10000; n++)
            sum += n;
        pause_briefly();
    }
    CHECK_EQ(sum, turns * 49995000);
    return arg;
}

int main(void)
{
    uint64_t *at = mmap((void *)0x200000000000, WORDS * 8, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(at == (void *)0x200000000000);
    for (uint64_t n = 0; n < WORDS; n++)
        if (n / 512 % 4)
            at[n] = n * 0x9e3779b97f4a7c15ul;
    int fd = open("count", O_RDWR | O_CREAT | O_TRUNC, 0644);
    pthread_t thread = start(compute, NULL);
    char text[32];
    dprintf(1, "ready 1\n");
    for (long count = 0; access("go.1", F_OK) != 0; count++) {
        snprintf(text, sizeof text, "%15ld", count);
        CHECK(pwrite(fd, text, 15, 0) == 15);
        CHECK(wait4(-1, NULL, WNOHANG, NULL) == -1 && errno == ECHILD);
        pause_briefly();
    }
    for (uint64_t n = 0; n < WORDS; n++)
        CHECK_EQ(at[n], n / 512 % 4 ? n * 0x9e3779b97f4a7c15ul : 0);
    released = 1;
    join(thread);
    CHECK(wait4(-1, NULL, __WALL | WNOHANG, NULL) == -1 && errno == ECHILD);
    return done();
}

/*
 * token PLACE FILE: one of two processes that pass a token through a file mapped by both. The
 * number in the token must match this process's own count of turns, however long ago the other
 * process started. It does not match if the two processes are checkpointed at different moments.
 * Runs until "go.1" appears.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    uint64_t place = atoi(argv[1]), mine = 0;
    int file = open(argv[2], O_RDWR), fd = open("count", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(file >= 0 && fd >= 0);
    volatile uint64_t *token = mmap(NULL, 4096, RW, MAP_SHARED, file, 0);
    CHECK(token != MAP_FAILED);
    char text[32];
    dprintf(1, "ready 1\n");
    while (access("go.1", F_OK) != 0) {
        uint64_t seen = *token;
        if (seen % 2 != place) {
            sched_yield();
            continue;
        }
        CHECK_EQ(seen, 2 * mine + place);
        mine++;
        snprintf(text, sizeof text, "%15llu", (unsigned long long)mine);
        CHECK(pwrite(fd, text, 15, 0) == 15);
        *token = seen + 1;
    }
    CHECK(close(file) == 0);
    return done();
}

/* Devices without state (null, zero, full, random, urandom), as descriptors and as a mapping. */
#include "victim.h"

int main(void)
{
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR);
    int random = open("/dev/random", O_RDONLY), urandom = open("/dev/urandom", O_RDONLY);
    char *at = mmap(NULL, 8192, RW, MAP_PRIVATE, zero, 0), byte = 1;
    CHECK(null >= 0 && zero >= 0 && full >= 0 && random >= 0 && urandom >= 0 && at != MAP_FAILED);
    at[1] = 'm';
    checkpoint_here(1);
    CHECK(write(null, "x", 1) == 1 && read(null, &byte, 1) == 0);
    CHECK(read(zero, &byte, 1) == 1 && byte == 0);
    CHECK(write(full, "x", 1) == -1 && errno == ENOSPC);
    CHECK(read(random, &byte, 1) == 1 && read(urandom, &byte, 1) == 1);
    CHECK(at[1] == 'm' && at[0] == 0 && at[4096] == 0);
    CHECK(read(0, &byte, 1) == 0);
    return done();
}

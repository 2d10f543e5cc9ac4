/*
 * The vDSO works at its old address. Clocks read through it agree with the system call and never go
 * backwards.
 */
#include "victim.h"
#include <sys/auxv.h>
#include <sys/time.h>

static double by_call(clockid_t clock)
{
    struct timespec t;
    CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE};
    double before = now();
    const char *vdso = (const char *)getauxval(AT_SYSINFO_EHDR);
    CHECK(vdso && memcmp(vdso, "\177ELF", 4) == 0);
    checkpoint_here(1);
    CHECK(memcmp(vdso, "\177ELF", 4) == 0);
    CHECK(now() >= before);
    for (int n = 0; n < 4; n++) {
        struct timespec t;
        double low = by_call(clocks[n]);
        CHECK(clock_gettime(clocks[n], &t) == 0);
        double seen = t.tv_sec + t.tv_nsec / 1e9, high = by_call(clocks[n]);
        CHECK(seen >= low - 1e-5 && seen <= high + 1e-5);
    }
    struct timeval day;
    unsigned cpu;
    CHECK(gettimeofday(&day, NULL) == 0 && time(NULL) > 0 && getcpu(&cpu, NULL) == 0);
    return done();
}

/*
 * left_scratch [ADDRESS]: has a mapping like one that a killed daemon leaves. With ADDRESS, the
 * mapping is there and holds the file "code". Otherwise it is empty, at the lowest place that a
 * daemon would choose. After "go.1" the mapping is gone, and one that only looks like it is not.
 */
#include "victim.h"

#define LEN (512ul << 10)
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)
#define HOW (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE)

int main(int argc, char **argv)
{
    char *at = (char *)0x50000;
    if (argc > 1)
        at = (char *)strtoul(argv[1], NULL, 16);
    CHECK(mmap(at, LEN, RWX, HOW, -1, 0) == at);
    if (argc > 1) {
        size_t len;
        char *code = slurp("code", &len);
        memcpy(at, code, len);
        free(code);
    }
    char *own = mmap((char *)0x300000000000, LEN, RWX, HOW, -1, 0);
    CHECK(own == (char *)0x300000000000);
    own[5] = 7;
    checkpoint_here(1);
    CHECK(msync(at, LEN, MS_ASYNC) == -1 && errno == ENOMEM);
    CHECK_EQ(own[5], 7);
    return done();
}

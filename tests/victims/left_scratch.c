/*
 * left_scratch [ADDRESS]: it and its child have a mapping like one that a killed daemon leaves.
 * With ADDRESS, the mapping is there and holds the file "code". Otherwise it is empty, at the
 * lowest place that a daemon would choose. After "go.1" the mapping is gone, and one that only
 * looks like it is not.
 */
#include "victim.h"
#include <sys/wait.h>

#define LEN (512ul << 10)
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)
#define HOW (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE)

static void look_again(char *at, char *own)
{
    CHECK(msync(at, LEN, MS_ASYNC) == -1 && errno == ENOMEM);
    CHECK_EQ(own[5], 7);
}

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
    int go[2];
    CHECK(pipe(go) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        CHECK(read(go[0], &byte, 1) == 1);
        look_again(at, own);
        _exit(0);
    }
    checkpoint_here(1);
    look_again(at, own);
    CHECK(write(go[1], "", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return done();
}

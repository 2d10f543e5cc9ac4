/* Files of /proc/self/task/TID still show the same thread, for a thread that is not the first. */
#include "victim.h"

static volatile pid_t tid;
static volatile int end;

static void *sleeper(void *arg)
{
    prctl(PR_SET_NAME, "sleeper");
    for (tid = gettid(); !end;)
        pause_briefly();
    return arg;
}

int main(void)
{
    char path[64], text[64] = "";
    pthread_t thread = start(sleeper, NULL);
    while (tid == 0)
        pause_briefly();
    snprintf(path, sizeof path, "/proc/self/task/%d", tid);
    int dir = open(path, O_PATH), comm = openat(dir, "comm", O_RDWR);
    CHECK(dir >= 0 && comm >= 0 && read(comm, text, 3) == 3);
    checkpoint_here(1);
    CHECK(lseek(comm, 0, SEEK_CUR) == 3 && pread(comm, text, 63, 0) == 8 && strcmp(text, "sleeper\n") == 0);
    CHECK(faccessat(dir, "status", F_OK, 0) == 0 && write(comm, "renamed", 7) == 7);
    end = 1;
    join(thread);
    return done();
}

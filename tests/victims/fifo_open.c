/*
 * Threads that block in open(2) of a FIFO, one for reading and one for writing. After the
 * checkpoint, the opens of the main thread complete them.
 */
#include "victim.h"

static volatile pid_t reader_tid, writer_tid;

static void *reads(void *unused)
{
    char text[8];
    reader_tid = gettid();
    int fd = open("to_read", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, 8) == 5 && memcmp(text, "hello", 5) == 0);
    return NULL;
}

static void *writes(void *unused)
{
    writer_tid = gettid();
    int fd = open("to_write", O_WRONLY);
    CHECK(fd >= 0 && write(fd, "there", 5) == 5);
    return NULL;
}

int main(void)
{
    char text[8];
    CHECK(mkfifo("to_read", 0600) == 0 && mkfifo("to_write", 0600) == 0);
    pthread_t reader = start(reads, NULL), writer = start(writes, NULL);
    while (!reader_tid || !writer_tid)
        pause_briefly();
    wait_blocked(reader_tid, SYS_openat);
    wait_blocked(writer_tid, SYS_openat);
    checkpoint_here(1);
    wait_blocked(reader_tid, SYS_openat);
    wait_blocked(writer_tid, SYS_openat);
    int to_read = open("to_read", O_WRONLY), to_write = open("to_write", O_RDONLY);
    CHECK(to_read >= 0 && to_write >= 0 && write(to_read, "hello", 5) == 5);
    CHECK(read(to_write, text, 8) == 5 && memcmp(text, "there", 5) == 0);
    join(reader);
    join(writer);
    return done();
}

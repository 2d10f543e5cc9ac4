/*
 * One thread waits in write(2) for room in a full pipe, another waits in read(2) for data in an
 * empty pipe.
 */
#include "victim.h"

static int full[2], empty[2];
static volatile pid_t writer_tid, reader_tid;
static char block[65536], got[65536 + 4];

static void *writes(void *unused)
{
    writer_tid = gettid();
    CHECK_EQ(write(full[1], "last", 4), 4);
    return NULL;
}

static void *reads(void *unused)
{
    char text[8];
    reader_tid = gettid();
    CHECK(read(empty[0], text, 8) == 5 && memcmp(text, "hello", 5) == 0);
    return NULL;
}

int main(void)
{
    memset(block, 'b', sizeof block);
    CHECK(pipe(full) == 0 && pipe(empty) == 0 && write(full[1], block, sizeof block) == sizeof block);
    pthread_t writer = start(writes, NULL), reader = start(reads, NULL);
    while (!writer_tid || !reader_tid)
        pause_briefly();
    wait_blocked(writer_tid, SYS_write);
    wait_blocked(reader_tid, SYS_read);
    checkpoint_here(1);
    pause_briefly();
    wait_blocked(writer_tid, SYS_write);
    wait_blocked(reader_tid, SYS_read);
    CHECK_EQ(write(empty[1], "hello", 5), 5);
    join(reader);
    CHECK_EQ(read(full[0], got, sizeof block), sizeof block);
    join(writer);
    CHECK(memcmp(got, block, sizeof block) == 0 && read(full[0], got, sizeof got) == 4 && memcmp(got, "last", 4) == 0);
    return done();
}

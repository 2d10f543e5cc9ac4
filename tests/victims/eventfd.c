/*
 * eventfd(2): counts from 0 to the maximum, semaphores, O_NONBLOCK, duplicates, and threads blocked
 * in read and in write.
 */
#include "victim.h"
#include <sys/eventfd.h>

static const uint64_t most = -2;
static int empty, full;
static volatile pid_t reader, writer;

static void *reads(void *unused)
{
    uint64_t got = 0;
    reader = gettid();
    CHECK(read(empty, &got, 8) == 8);
    CHECK_EQ(got, 77);
    return unused;
}

static void *writes(void *unused)
{
    uint64_t five = 5;
    writer = gettid();
    CHECK(write(full, &five, 8) == 8);
    return unused;
}

static uint64_t count(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    return strtoull(proc_line(path, "eventfd-count:"), NULL, 16);
}

int main(void)
{
    int semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), plain = eventfd(UINT32_MAX, EFD_CLOEXEC);
    int again = dup(plain), also = dup2(semaphore, 50);
    empty = eventfd(0, 0), full = eventfd(0, 0);
    CHECK(semaphore >= 0 && plain >= 0 && again >= 0 && also == 50 && empty >= 0 && full >= 0);
    CHECK(write(full, &most, 8) == 8);
    pthread_t threads[2] = {start(reads, NULL), start(writes, NULL)};
    while (!reader || !writer)
        pause_briefly();
    wait_blocked(reader, SYS_read);
    wait_blocked(writer, SYS_write);

    checkpoint_here(1);

    uint64_t got, value = 77;
    CHECK(count(empty) == 0 && count(full) == most && count(plain) == UINT32_MAX && count(semaphore) == 3);
    CHECK_EQ(fcntl(semaphore, F_GETFL), O_RDWR | O_NONBLOCK);
    CHECK_EQ(fcntl(plain, F_GETFL), O_RDWR);
    CHECK(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(again, F_GETFD) == 0);
    /* Both descriptors are one object. The two blocked threads still wait. */
    CHECK(write(again, &value, 8) == 8 && read(plain, &got, 8) == 8);
    CHECK_EQ(got, UINT32_MAX + 77ull);
    wait_blocked(reader, SYS_read);
    wait_blocked(writer, SYS_write);
    for (int n = 0; n < 3; n++)
        CHECK(read(n ? also : semaphore, &got, 8) == 8 && got == 1);
    CHECK(read(also, &got, 8) < 0 && errno == EAGAIN);
    CHECK(write(empty, &value, 8) == 8 && read(full, &got, 8) == 8 && got == most);
    join(threads[0]), join(threads[1]);
    CHECK_EQ(count(full), 5);
    return done();
}

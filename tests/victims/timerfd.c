/*
 * timerfd(2): what is left, what has expired, intervals, clocks, a time of the wall clock, and a
 * thread that waits in read.
 */
#include "victim.h"
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM};
static int waited;
static volatile pid_t waiter;

static int timer(int clock, int flags, time_t seconds, long ns, time_t interval, long interval_ns)
{
    struct itimerspec times = {{interval, interval_ns}, {seconds, ns}};
    int fd = timerfd_create(clock, TFD_NONBLOCK);
    if (fd >= 0)
        CHECK(timerfd_settime(fd, flags, &times, NULL) == 0);
    return fd;
}

static struct itimerspec times_of(int fd)
{
    struct itimerspec times;
    CHECK(timerfd_gettime(fd, &times) == 0);
    return times;
}

static uint64_t expirations(int fd)
{
    uint64_t got = 0;
    return read(fd, &got, 8) == 8 ? got : 0;
}

static void *waits(void *unused)
{
    uint64_t got;
    waiter = gettid();
    CHECK(read(waited, &got, 8) == 8 && got == 1);
    return unused;
}

static void is_far(int fd, time_t seconds, time_t interval)
{
    struct itimerspec times = times_of(fd);
    CHECK(times.it_value.tv_sec > seconds / 2 && times.it_value.tv_sec <= seconds);
    CHECK_EQ(times.it_interval.tv_sec, interval);
}

int main(void)
{
    uint64_t most = UINT64_MAX;
    time_t then = time(NULL) + 5000;
    int far = timer(CLOCK_MONOTONIC, 0, 1000, 999999999, 7, 0), off = timer(CLOCK_BOOTTIME, 0, 0, 0, 3, 0);
    int once = timer(CLOCK_MONOTONIC, 0, 0, 1, 0, 0), often = timer(CLOCK_BOOTTIME, 0, 0, 1000000, 0, 1000000);
    int always = timer(CLOCK_MONOTONIC, 0, 0, 1, 0, 1), many = timer(CLOCK_MONOTONIC, 0, 1000, 0, 0, 0);
    int wall = timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, then, 0, 60, 0);
    int each[5], again = dup(far);
    waited = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    CHECK(far >= 0 && off >= 0 && once >= 0 && often >= 0 && always >= 0 && many >= 0 && wall >= 0 && waited >= 0);
    /* A machine without a clock that wakes it has no alarms. */
    for (int n = 0; n < 5; n++)
        CHECK((each[n] = timer(clocks[n], 0, 2000 + n, 0, n, 0)) >= 0 || n > 2);
    CHECK(ioctl(many, TFD_IOC_SET_TICKS, &most) == 0);
    pthread_t thread = start(waits, NULL);
    while (!waiter)
        pause_briefly();
    wait_blocked(waiter, SYS_read);
    for (int n = 0; n < 20; n++)
        pause_briefly();

    checkpoint_here(1);

    is_far(far, 1000, 7), is_far(again, 1000, 7), is_far(many, 1000, 0);
    for (int n = 0; n < 5; n++)
        if (each[n] >= 0)
            is_far(each[n], 2000 + n, n);
    struct itimerspec times = times_of(off), new = {{0, 0}, {0, 1}};
    /* A timer that is off keeps its interval. */
    CHECK(times.it_value.tv_sec == 0 && times.it_value.tv_nsec == 0 && times.it_interval.tv_sec == 3);
    CHECK_EQ(expirations(off), 0);
    CHECK_EQ(expirations(once), 1);
    CHECK(expirations(once) == 0 && errno == EAGAIN);
    CHECK(expirations(often) >= 10);
    CHECK(expirations(always) >= 1000 && expirations(always) >= 1);
    CHECK_EQ(expirations(many), most);
    CHECK(labs(time(NULL) + times_of(wall).it_value.tv_sec - then) < 100);
    CHECK_EQ(strtol(proc_line("/proc/self/fdinfo/9", "settime flags:"), NULL, 8), 3);
    CHECK(wall == 9 && fcntl(waited, F_GETFD) == FD_CLOEXEC && fcntl(waited, F_GETFL) == O_RDWR);
    CHECK_EQ(fcntl(far, F_GETFL), O_RDWR | O_NONBLOCK);
    /* They work: the one goes on, two descriptors are one timer, and the thread is woken. */
    while (expirations(often) == 0)
        pause_briefly();
    CHECK(timerfd_settime(again, 0, &new, NULL) == 0);
    while (expirations(far) == 0)
        pause_briefly();
    wait_blocked(waiter, SYS_read);
    CHECK(timerfd_settime(waited, 0, &new, NULL) == 0);
    join(thread);
    return done();
}

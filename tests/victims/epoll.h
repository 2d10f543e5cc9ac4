/* What the victims with epoll(7) have in common. victim.h or tree.h comes before it. */
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { ENTRIES = 64 };

/* The entries of an instance, ascending. */
struct entries {
    int count;
    struct entry {
        int number;
        uint32_t events;
        uint64_t data;
    } at[ENTRIES];
};

static inline void control(int poll, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECK(epoll_ctl(poll, operation, fd, &event) == 0);
}

static inline void watch(int poll, int fd, uint32_t events, uint64_t data)
{
    control(poll, EPOLL_CTL_ADD, fd, events, data);
}

static inline void change(int poll, int fd, uint32_t events, uint64_t data)
{
    control(poll, EPOLL_CTL_MOD, fd, events, data);
}

static struct epoll_event events_[ENTRIES] __attribute__((unused));

/* How many entries are ready now. */
static inline int ready(int poll)
{
    int count = epoll_wait(poll, events_, ENTRIES, 0);
    CHECK(count >= 0);
    return count;
}

/*
 * Whether the entry with this data is ready, or was when this was last asked about another one. An
 * event counts once.
 */
static inline int is_ready(int poll, uint64_t data)
{
    static struct {
        int poll;
        uint64_t data;
    } seen[ENTRIES];
    static int count;
    for (int n = 0, got = ready(poll); n < got; n++) {
        int known = 0;
        for (int at = 0; at < count; at++)
            known |= seen[at].poll == poll && seen[at].data == events_[n].data.u64;
        if (!known) {
            CHECK(count < ENTRIES);
            seen[count].poll = poll, seen[count++].data = events_[n].data.u64;
        }
    }
    for (int at = 0; at < count; at++)
        if (seen[at].poll == poll && seen[at].data == data) {
            seen[at] = seen[--count];
            return 1;
        }
    return 0;
}

static inline int by_data(const void *left, const void *right)
{
    uint64_t l = ((const struct entry *)left)->data, r = ((const struct entry *)right)->data;
    return l < r ? -1 : l > r;
}

static inline struct entries entries_of(int poll)
{
    struct entries all = {0};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", poll);
    char *text = slurp(path, NULL);
    for (char *line = strstr(text, "tfd:"); line; line = strstr(line + 1, "tfd:")) {
        struct entry *entry = &all.at[all.count++];
        CHECK(all.count <= ENTRIES);
        CHECK(sscanf(line, "tfd: %d events: %x data: %lx", &entry->number, &entry->events, &entry->data) == 3);
    }
    free(text);
    qsort(all.at, all.count, sizeof *all.at, by_data);
    return all;
}

/* One that has fired may report an error or a hangup. */
static inline void check_same(const struct entries *before, const struct entries *after)
{
    CHECK_EQ(after->count, before->count);
    for (int n = 0; n < before->count; n++) {
        CHECK_EQ(after->at[n].number, before->at[n].number);
        CHECK_EQ(after->at[n].data, before->at[n].data);
        CHECK_EQ(after->at[n].events & ~(EPOLLERR | EPOLLHUP), before->at[n].events & ~(EPOLLERR | EPOLLHUP));
    }
}

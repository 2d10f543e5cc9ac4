/*
 * System V message queues keep id, key, owner, mode, capacity, the last sender and receiver, and
 * messages of any type and length, in order. One process waits for room in a full queue, another
 * waits for a message in an empty one.
 */
#include "tree.h"
#include "sysv.h"
#include <sys/msg.h>

enum { LONGEST = 8192 };

struct message { long type; char text[LONGEST]; };

static int queues[4];
enum { MANY, FULL, EMPTY, UNUSED };

static int new_queue(key_t key)
{
    int queue = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(queue >= 0);
    remember('q', queue);
    return queue;
}

/* All properties except the times. */
static const char *shown(int queue)
{
    static char text[4][256];
    static int at;
    struct msqid_ds stat;
    CHECK(msgctl(queue, IPC_STAT, &stat) == 0);
    struct ipc_perm perm = stat.msg_perm;
    at = (at + 1) % 4;
    sprintf(text[at], "key %x mode %o owner %u %u creator %u %u: %lu of %lu bytes in %lu, %d %d", perm.__key, perm.mode, perm.uid, perm.gid,
            perm.cuid, perm.cgid, stat.__msg_cbytes, stat.msg_qbytes, stat.msg_qnum, stat.msg_lspid, stat.msg_lrpid);
    return strdup(text[at]);
}

static void check_shown(int queue, const char *before)
{
    const char *after = shown(queue);
    if (strcmp(before, after) != 0)
        dprintf(1, "FAIL before: %s\nafter: %s\n", before, after);
    CHECK(strcmp(before, after) == 0);
}

static void put(int queue, long type, size_t len, char fill)
{
    static struct message message;
    message.type = type;
    memset(message.text, fill, len);
    CHECK(msgsnd(queue, &message, len, 0) == 0);
}

static void check_next(int queue, long type, size_t len, char fill)
{
    static struct message message;
    CHECK_EQ(msgrcv(queue, &message, LONGEST, 0, IPC_NOWAIT), len);
    CHECK_EQ(message.type, type);
    for (size_t n = 0; n < len; n++)
        CHECK(message.text[n] == fill);
}

static void sends(int place)
{
    arrive(place);
    put(queues[FULL], 9, 1, 'w');
    check_place(place);
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
}

static void receives(int place)
{
    arrive(place);
    struct message message;
    CHECK_EQ(msgrcv(queues[EMPTY], &message, LONGEST, -10, 0), 3);
    CHECK_EQ(message.type, 4);
    check_place(place);
    __atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
}

static void receives_one(int queue)
{
    check_next(queue, 1, 100, 'x');
}

int main(void)
{
    board_make();
    for (int n = 0; n < 4; n++)
        queues[n] = new_queue(n == UNUSED ? IPC_PRIVATE : key_of(n));
    struct msqid_ds set = {.msg_perm = {.uid = 77, .gid = 78, .mode = 0451}, .msg_qbytes = 16000};
    CHECK(msgctl(queues[MANY], IPC_SET, &set) == 0);
    put(queues[MANY], 1, 100, 'x');
    put(queues[MANY], INT64_MAX, 0, 0);
    put(queues[MANY], 5, LONGEST, 'y');
    put(queues[MANY], 1, 1, 'z');
    reap(spawn(receives_one, queues[MANY]), 0);
    set = (struct msqid_ds){.msg_perm = {.mode = 0600}, .msg_qbytes = 10};
    CHECK(msgctl(queues[FULL], IPC_SET, &set) == 0);
    put(queues[FULL], 2, 4, 'a');
    put(queues[FULL], 3, 6, 'b');
    pid_t sender = spawn(sends, 0), receiver = spawn(receives, 1);
    await_arrivals(2);
    wait_blocked_process(sender, SYS_msgsnd);
    wait_blocked_process(receiver, SYS_msgrcv);
    const char *before[4];
    for (int n = 0; n < 4; n++)
        before[n] = shown(queues[n]);

    checkpoint_tree(2);

    wait_blocked_process(sender, SYS_msgsnd);
    wait_blocked_process(receiver, SYS_msgrcv);
    for (int n = 0; n < 4; n++)
        check_shown(queues[n], before[n]);
    CHECK_EQ(msgget(key_of(MANY), 0), queues[MANY]);
    check_next(queues[MANY], INT64_MAX, 0, 0);
    check_next(queues[MANY], 5, LONGEST, 'y');
    check_next(queues[MANY], 1, 1, 'z');
    put(queues[EMPTY], 11, 2, 'n');
    put(queues[EMPTY], 4, 3, 'm');
    reap(receiver, 0);
    check_next(queues[FULL], 2, 4, 'a');
    reap(sender, 0);
    check_next(queues[FULL], 3, 6, 'b');
    check_next(queues[FULL], 9, 1, 'w');
    for (int n = 0; n < 4; n++)
        CHECK(msgctl(queues[n], IPC_RMID, NULL) == 0);
    return done();
}

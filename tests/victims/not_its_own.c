/*
 * A process of user "nobody" with something that it may not read itself: the contents of a file
 * that it has inherited for writing only ("file"), the messages of a queue that it may only send to
 * ("queue"), a thread that is root's ("thread"). Or a file of its own, open for writing ("own").
 */
#include "victim.h"
#include <sys/msg.h>

enum { NOBODY = 65534 };

static void *of_root(void *go)
{
    while (access(go, F_OK) != 0)
        pause_briefly();
    return NULL;
}

int main(int argc, char **argv)
{
    struct { long type; char text[16]; } message = {1, "root's secret"};
    int queue = -1, fd = -1;
    pthread_t thread = 0;
    CHECK(argc == 2);
    if (strcmp(argv[1], "file") == 0 || strcmp(argv[1], "own") == 0) {
        fd = open("secret", O_WRONLY | O_CREAT | O_EXCL, 0600);
        CHECK(write(fd, "root's secret", 13) == 13 && unlink("secret") == 0);
    } else if (strcmp(argv[1], "queue") == 0) {
        queue = msgget(IPC_PRIVATE, IPC_CREAT | 0602);
        CHECK(queue >= 0 && msgsnd(queue, &message, sizeof message.text, 0) == 0);
    } else {
        thread = start(of_root, "go.1");
    }
    /* The system calls: the C library would change all threads. */
    CHECK(syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) == 0);
    CHECK(syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    if (queue >= 0) {
        CHECK(msgsnd(queue, &message, sizeof message.text, 0) == 0);
        dprintf(1, "queue %d\n", queue);
    }
    checkpoint_here(1);
    if (fd >= 0)
        CHECK(write(fd, "more", 4) == 4);
    if (strcmp(argv[1], "thread") == 0)
        join(thread);
    return done();
}

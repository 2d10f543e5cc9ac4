/*
 * The main thread ends by pthread_exit and becomes a zombie leader. Another thread continues and
 * ends the process.
 */
#include "victim.h"

static void *body(void *arg)
{
    await_leader_end();
    checkpoint_here(1);
    exit(done());
}

int main(void)
{
    start(body, NULL);
    pthread_exit(NULL);
}

/*
 * At "go.1" the main thread ends by pthread_exit while another thread continues. That thread prints
 * "ready 2" and ends the process at "go.2".
 */
#include "victim.h"

static void *body(void *arg)
{
    await_leader_end();
    checkpoint_here(2);
    exit(done());
}

int main(void)
{
    start(body, NULL);
    checkpoint_here(1);
    pthread_exit(NULL);
}

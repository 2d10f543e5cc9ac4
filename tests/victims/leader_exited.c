/* The main thread ends by pthread_exit and leaves a zombie leader; another thread goes on and ends the process. */
#include "victim.h"

static void *body(void *arg)
{
    for (char state = 'R'; state != 'Z'; pause_briefly()) {
        char *text = slurp("/proc/self/stat", NULL);
        state = strrchr(text, ')')[2];
        free(text);
    }
    checkpoint_here(1);
    exit(done());
}

int main(void)
{
    start(body, NULL);
    pthread_exit(NULL);
}

/* A hundred threads asleep on a condition variable all wake, each once. */
#include "victim.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int waiting, released;

static void *body(void *arg)
{
    pthread_mutex_lock(&lock);
    waiting++;
    while (!released)
        pthread_cond_wait(&cond, &lock);
    waiting--;
    pthread_mutex_unlock(&lock);
    return arg;
}

int main(void)
{
    pthread_t threads[100];
    for (long n = 0; n < 100; n++)
        threads[n] = start(body, (void *)n);
    for (int all = 0; !all; pause_briefly()) {
        pthread_mutex_lock(&lock);
        all = waiting == 100;
        pthread_mutex_unlock(&lock);
    }
    checkpoint_here(1);
    pthread_mutex_lock(&lock);
    released = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    for (long n = 0; n < 100; n++)
        CHECK_EQ(join(threads[n]), n);
    CHECK_EQ(waiting, 0);
    return done();
}

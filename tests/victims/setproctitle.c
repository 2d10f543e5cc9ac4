/*
 * A program that overwrote its arguments, as daemons do to show their activity, keeps the new text
 * in /proc/self/cmdline.
 */
#include "victim.h"

int main(int argc, char **argv)
{
    size_t before, after;
    memset(argv[0], 0, strlen(argv[0]));
    strcpy(argv[0], "at");
    char *seen = slurp("/proc/self/cmdline", &before);
    checkpoint_here(1);
    char *again = slurp("/proc/self/cmdline", &after);
    CHECK(before == after && memcmp(seen, again, before) == 0 && strcmp(again, "at") == 0);
    return done();
}

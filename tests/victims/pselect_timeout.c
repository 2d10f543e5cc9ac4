/* select(3) of the C library, which calls pselect6(2), times out at its time. */
#include "blocked.h"
#include <sys/select.h>

static void call(void)
{
    struct timeval asked = {2, 0};
    double begin = now();
    CHECK(select(0, NULL, NULL, NULL, &asked) == 0);
    check_took(begin, ASKED);
}

int main(void)
{
    return blocked_in(SYS_pselect6, 0, call);
}

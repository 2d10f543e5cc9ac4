/*
 * A process of user "nobody" that another process of "nobody" may not trace: it has another group
 * ("group"), or a capability ("capability").
 */
#include "victim.h"
#include <grp.h>
#include <linux/capability.h>

enum { NOBODY = 65534 };

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int group = strcmp(argv[1], "group") == 0 ? 7 : NOBODY;
    CHECK(prctl(PR_SET_KEEPCAPS, group == NOBODY) == 0 && setgroups(0, NULL) == 0);
    CHECK(setresgid(group, group, group) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    if (group == NOBODY) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2] = {{0}, {0}};
        data[0].effective = data[0].permitted = data[0].inheritable = 1 << CAP_NET_RAW;
        CHECK(syscall(SYS_capset, &header, data) == 0);
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
    }
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    checkpoint_here(1);
    return done();
}

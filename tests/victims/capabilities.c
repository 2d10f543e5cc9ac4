/*
 * An unprivileged process that kept some capabilities: all five sets, securebits and no_new_privs
 * are unchanged.
 */
#include "victim.h"
#include <linux/capability.h>
#include <linux/securebits.h>

static const char *lines[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Uid:", "Groups:"};

int main(void)
{
    char before[8][512];
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT) == 0);
    CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS) == 0);
    CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    data[0].permitted = 1 << CAP_NET_BIND_SERVICE | 1 << CAP_KILL;
    data[0].inheritable = data[0].effective = 1 << CAP_NET_BIND_SERVICE;
    CHECK(syscall(SYS_capset, &header, data) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
    int securebits = prctl(PR_GET_SECUREBITS);
    for (int n = 0; n < 8; n++)
        strcpy(before[n], proc_line("/proc/self/status", lines[n]));
    checkpoint_here(1);
    for (int n = 0; n < 8; n++)
        CHECK(strcmp(before[n], proc_line("/proc/self/status", lines[n])) == 0);
    CHECK_EQ(prctl(PR_GET_SECUREBITS), securebits);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    return done();
}

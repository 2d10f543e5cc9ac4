/*
 * bequeath KIND PROGRAM ARG...: executes a program that has something which every process inherits
 * from its maker.
 */
#include "victim.h"
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/personality.h>

enum { SET_MERGE = 67, JOIN_SESSION_KEYRING = 1, SESSION_KEYRING = -3 };

int main(int argc, char **argv)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    CHECK(argc > 2);
    if (strcmp(argv[1], "no_new_privs") == 0)
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    else if (strcmp(argv[1], "seccomp") == 0)
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    else if (strcmp(argv[1], "personality") == 0)
        CHECK(personality(ADDR_NO_RANDOMIZE | UNAME26) >= 0);
    else if (strcmp(argv[1], "merge") == 0)
        prctl(SET_MERGE, 1, 0, 0, 0); /* Some kernels are built without it. */
    else if (strcmp(argv[1], "keys") == 0) {
        if (syscall(SYS_keyctl, JOIN_SESSION_KEYRING, NULL) >= 0)
            CHECK(syscall(SYS_add_key, "user", "ckptfs-test", "x", 1, SESSION_KEYRING) >= 0);
    } else if (strcmp(argv[1], "loginuid") == 0) {
        int fd = open("/proc/self/loginuid", O_WRONLY);
        CHECK(fd >= 0 && write(fd, "77", 2) == 2 && close(fd) == 0);
        CHECK(prctl(PR_CAPBSET_DROP, CAP_AUDIT_CONTROL, 0, 0, 0) == 0);
    } else
        CHECK(!"a known kind");
    execv(argv[2], argv + 2);
    CHECK(!"executed");
}

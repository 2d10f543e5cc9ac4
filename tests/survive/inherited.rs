//! A restored process has nothing of the daemon that restores it. What it cannot lose (a seccomp
//! filter, no_new_privs, what takes a capability that it lacks) refuses the restore before anything
//! is made.

use std::path::PathBuf;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process};

/// A killed victim and its image, and a mount by a daemon that has what `victims/bequeath.c KIND`
/// gives it.
fn dead_victim(kind: &str) -> (Victim, Mounted, PathBuf) {
    let mut victim = Victim::ready(&Spec::c("inherits_nothing"));
    let tree = victim.pid().to_string();
    let mount = Mounted::heir_of(kind, &["--tree", &tree]);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    (victim, mount, snap)
}

fn is_lost(kind: &str) {
    let (victim, mount, snap) = dead_victim(kind);
    mount.restore(&snap);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn personality_is_not_the_daemons() {
    is_lost("personality");
}

#[test]
fn memory_merging_is_not_the_daemons() {
    is_lost("merge");
}

#[test]
fn keys_are_not_the_daemons() {
    is_lost("keys");
}

fn is_refused(kind: &str, sentence: &str) {
    let (victim, mount, snap) = dead_victim(kind);
    mount.try_restore(&snap).fails_with("Operation not permitted");
    assert!(mount.log().contains(sentence), "the log does not say why:\n{}", mount.log());
    assert!(process::is_free(victim.pid()) && process::children(mount.daemon()).is_empty());
}

#[test]
fn a_daemon_under_seccomp_restores_nothing() {
    is_refused("seccomp", "this daemon runs under a seccomp filter");
}

#[test]
fn a_daemon_with_no_new_privs_restores_no_process_without() {
    is_refused("no_new_privs", "it may gain privileges by execve(2)");
}

#[test]
fn a_daemon_of_a_login_that_may_not_change_it_restores_no_process_without() {
    // Some kernels are built without audit.
    if PathBuf::from("/proc/self/loginuid").exists() {
        is_refused("loginuid", "its login user (loginuid) is 4294967295, and this daemon's, 77, cannot be changed");
    }
}

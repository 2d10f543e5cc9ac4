//! A process that wants to be taken for one of this program's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, wait};

use crate::pids;

/// Its name and its exit signal are those of a snapshot child. It is listed, dumped, stopped and
/// killed nevertheless, whoever holds the tree.
#[test]
fn a_process_with_the_name_of_a_snapshot_child_hides_nothing() {
    let mut victim = Victim::ready(&Spec::c("named_snapshot"));
    let child = process::children(victim.pid())[0];
    let (mount, other) = (Mounted::over(victim.pid()), Mounted::over(victim.pid()));
    let mut both = [victim.pid(), child];
    both.sort_unstable();
    assert_eq!(pids(&mount), both);
    let _frozen = mount.write(&mount.of(victim.pid(), "freeze"), "1").success();
    assert!(matches!(process::state(child), Some('t' | 'T')), "it is stopped with the tree");
    assert_eq!(pids(&mount), both);
    assert_eq!(pids(&other), both);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    assert!(mount.of(child, "info.json").exists());
    let _killed = mount.write(&mount.of(victim.pid(), "kill"), "1").success();
    assert!(!process::is_alive(child), "it is killed with the tree");
    victim.kill();
    wait::until("its number is free", || process::is_free(child));
    mount.restore(&snap);
    assert!(process::is_alive(child), "it was in the image");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// What the daemon has made stays out of every list, in this mount and in another one, also while
/// several snapshots are pinned and after the daemon was killed.
#[test]
fn snapshot_children_are_hidden_from_every_mount() {
    let victim = Victim::ready(&Spec::c("fork_one"));
    let (mut mount, other) = (Mounted::over(victim.pid()), Mounted::over(victim.pid()));
    let before = pids(&other);
    for name in ["one", "two"] {
        std::fs::create_dir(mount.of(victim.pid(), "snapshots").join(name)).unwrap();
    }
    let made: Vec<i32> = process::children(victim.pid()).into_iter().filter(|pid| !before.contains(pid)).collect();
    assert_eq!(made.len(), 2);
    assert_eq!((pids(&mount), pids(&other)), (before.clone(), before.clone()));
    mount.kill_daemon();
    other.dump(victim.pid(), &other.snap("snap"));
    assert_eq!(pids(&other), before);
    wait::until("the remains are reaped", || made.iter().all(|pid| process::is_free(*pid)));
    drop((mount, other));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

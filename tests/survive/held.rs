//! Checkpoint and stop: `freeze` stops a tree, which is read while it is stopped, killed and
//! restored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool};

fn run(name: &str) {
    let mut victim = Victim::ready(&Spec::c(name));
    let mount = Mounted::over(victim.pid());
    let freeze = mount.of(victim.pid(), "freeze");
    let _held = mount.write(&freeze, "1").success();
    let (first, second) = (mount.snap("first"), mount.snap("second"));
    mount.dump(victim.pid(), &first);
    mount.dump(victim.pid(), &second);
    let whole = |snap| std::fs::read(snap).unwrap();
    // The header holds the time, the first record the clocks, each with a checksum, and the trailer
    // a digest.
    let differ = whole(&first).iter().zip(&whole(&second)).skip(64).filter(|(a, b)| a != b).count();
    assert!(differ < 192, "{name}: two images of one stopped tree differ in {differ} bytes");
    victim.kill();
    mount.restore(&second);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok, "{name}");
    victim.finish();
}

#[test]
fn trees_that_stand_still() {
    for name in [
        "fork_wide",
        "zombies",
        "stopped",
        "cow_changed",
        "share_vm",
        "pipe_family",
        "leader_exited",
        "fork_with_threads",
    ] {
        run(name);
    }
}

/// A failed dump does not resume a tree that `freeze` holds.
#[test]
fn a_tree_that_cannot_be_read_stays_held() {
    let victim = Victim::ready(&Spec::c("address_space_full"));
    let mount = Mounted::over(victim.pid());
    let freeze = mount.of(victim.pid(), "freeze");
    let _held = mount.write(&freeze, "1").success();
    for _ in 0..2 {
        tool::run(&["cat".into(), mount.of(victim.pid(), "image")]).fails_with("Cannot allocate memory");
        let sentence = format!("pid {}: mapping a scratch page (is its RLIMIT_AS used up", victim.pid());
        assert!(mount.log().contains(&format!("dump: {sentence}")), "{sentence}:\n{}", mount.log());
        assert_eq!(std::fs::read_to_string(&freeze).unwrap().trim(), "1");
        assert_eq!(process::state(victim.pid()), Some('t'));
    }
    victim.go(1);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(victim.output().lines().last(), Some("ready 1"), "it ran although it is held");
    let _goes_on = mount.write(&freeze, "0").success();
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

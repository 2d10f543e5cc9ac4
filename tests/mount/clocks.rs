//! `-o clock=`: a restored tree never sees its clocks go back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use ckptfs_tests::{Cgroup, Event, Mounted, Spec, Victim, build, process, tool};
use nix::time::{ClockId, clock_gettime};

use crate::{count, ends_well, goes_on};

/// The time namespace of a process.
fn namespace(pid: i32) -> PathBuf {
    let time = process::link(pid, "ns/time").expect("a time namespace");
    assert_eq!(process::link(pid, "ns/time_for_children").map(number), Some(number(time.clone())));
    time
}

fn number(link: PathBuf) -> String {
    link.to_string_lossy().split_once(':').expect("a number").1.to_owned()
}

/// A killed victim, a mount with `option`, and its image.
fn dead(name: &str, option: &str) -> (Victim, Mounted, PathBuf) {
    let mut victim = Victim::ready(&Spec::c(name));
    let mount = Mounted::with(&["--tree", &victim.pid().to_string(), "-o", option]);
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    (victim, mount, snap)
}

/// The victim's clocks were far ahead of those of this machine.
#[test]
fn clocks_that_would_go_back_are_refused_on_request() {
    let (victim, mount, snap) = dead("time_namespace", "clock=refuse");
    mount.try_restore(&snap).fails_with("Operation not supported");
    let told = std::fs::read_to_string(mount.file("restore")).unwrap();
    assert!(told.contains("they must not go back, and with -o clock=auto they go on"), "{told}");
    assert!(process::is_free(victim.pid()));
    let other = Mounted::with(&["--tree", &std::process::id().to_string()]);
    other.restore(&snap);
    assert_ne!(namespace(victim.pid()), namespace(other.daemon()));
    for n in 1..=2 {
        victim.go(n);
        let event = victim.event(n);
        assert_eq!(event, if n == 1 { Event::Ready(2) } else { Event::Ok });
    }
    victim.finish();
}

#[test]
fn the_clocks_of_the_machine_are_kept_while_they_are_ahead() {
    for option in ["clock=auto", "clock=refuse", "clock=host"] {
        let (victim, mount, snap) = dead("worker", option);
        mount.restore(&snap);
        assert_eq!(namespace(victim.pid()), namespace(mount.daemon()), "{option}");
        ends_well(victim);
    }
}

/// What the clocks of the instant show in an image, in ns.
fn clocks_in(image: &Path) -> [i64; 2] {
    let program = build::ckptfs();
    let json = tool::run(&[&program, Path::new("inspect"), Path::new("--json"), image]).success().text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let records = json["images"][0]["records"].as_array().unwrap();
    let clocks = records.iter().find_map(|record| record["body"].get("clocks")).expect("the clocks of the tree");
    ["monotonic_ns", "boottime_ns"].map(|name| clocks[name].as_i64().unwrap())
}

/// What the clocks show here.
fn clocks_here() -> [i64; 2] {
    [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME].map(|id| {
        let now = clock_gettime(id).unwrap();
        now.tv_sec() * 1_000_000_000 + now.tv_nsec()
    })
}

/// By how much the clocks of a process are moved, in ns: time_namespaces(7).
fn offsets(pid: i32) -> [i64; 2] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap();
    ["monotonic", "boottime"].map(|name| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a clock");
        let numbers: Vec<i64> = line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        numbers[0] * 1_000_000_000 + numbers[1]
    })
}

/// With `continue` the time between the dump and the restore is not counted. A container has one
/// time namespace, and its image can be made again.
#[test]
fn the_clocks_of_a_container_go_on_from_the_instant() {
    let cgroup = Cgroup::new("clocks");
    let mut victims = [0, 1].map(|_| Victim::ready(&Spec::c("worker")));
    victims.iter().for_each(|victim| cgroup.add(victim.pid()));
    let options = ["--cgroup".as_ref(), cgroup.path().as_os_str(), "-o".as_ref(), "clock=continue".as_ref()];
    let mount = Mounted::with(&options);
    let snap = mount.snap("snap");
    for _ in 0..2 {
        let _quiet = tool::shell("cat \"$1\" > \"$2\"", &[mount.file("image"), snap.clone()]).success();
        victims.iter_mut().for_each(Victim::kill);
        let before = clocks_here();
        mount.restore(&snap);
        let (at, after, moved) = (clocks_in(&snap), clocks_here(), offsets(victims[0].pid()));
        let own = offsets(mount.daemon());
        for clock in 0..2 {
            // The instant of the restore at which the clocks showed what the image says.
            let began = at[clock] - (moved[clock] - own[clock]);
            assert!((before[clock]..=after[clock]).contains(&began), "{clock}: {before:?} {began} {after:?}");
        }
        let [first, second] = [&victims[0], &victims[1]].map(|victim| namespace(victim.pid()));
        assert_eq!(first, second);
        assert_ne!(first, namespace(mount.daemon()));
        victims.iter().for_each(goes_on);
        assert!(victims.iter().all(|victim| count(victim) > 0));
    }
    victims.into_iter().for_each(ends_well);
}

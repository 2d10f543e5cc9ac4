//! The cost of an image: it stores the pages that were written, and the daemon does not grow with
//! the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, tool};

const MIB: u64 = 1 << 20;

#[test]
fn only_touched_pages_are_stored() {
    let mut victim = Victim::ready(&Spec::c("sparse"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let len = fs::metadata(&snap).unwrap().len();
    assert!((100 * MIB..103 * MIB).contains(&len), "an image of {len} bytes");
    victim.kill();
    mount.restore(&snap);
    let _again = tool::run(&["cmp".into(), mount.of(victim.pid(), "image"), "/dev/null".into()]);
    let peak = process::status(mount.daemon(), "VmHWM").unwrap();
    let kib: u64 = peak.trim_end_matches("kB").trim().parse().unwrap();
    assert!(kib < 64 * 1024, "the daemon took {peak}");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// Only a plausible relation is checked, because a loaded machine delays all processes. The
/// benchmark compares the numbers.
#[test]
fn the_stopped_time_is_reported_and_true() {
    let victim = Victim::ready(&Spec::c("gaps"));
    let mount = Mounted::over(victim.pid());
    mount.dump(victim.pid(), &mount.snap("snap"));
    let told = mount.status()["freezes"][0]["stopped_ms"].as_f64().expect("status lists the last freeze");
    let info = fs::read_to_string(mount.of(victim.pid(), "info.json")).unwrap();
    assert!(info.contains("stopped"), "info.json does not have the stopped time:\n{info}");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    let output = victim.output();
    let mut words = output.split_whitespace().skip_while(|word| *word != "longest");
    let longest: f64 = words.nth(1).unwrap().parse().unwrap();
    assert!(told > 0.0 && longest / 1000.0 >= told * 0.8, "reported {told} ms, measured {longest} us");
    victim.finish();
}

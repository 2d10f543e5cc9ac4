//! The copy-on-write child takes from its process neither memory nor a place among its tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use ckptfs_tests::{Cgroup, Event, Mounted, Spec, Victim, process, wait};

use crate::{count, mounted_worker};

/// A user that no other test uses, so that no other test has tasks of it.
const USER: u32 = 54_321;

/// Reads images of a process that lives at its limit. None of its forks may fail. `status` says why
/// it stays stopped.
fn is_read_while_stopped(victim: Victim, limit: &str) {
    let mount = Mounted::over(victim.pid());
    for _ in 0..10 {
        let before = count(&victim);
        wait::until("it forks", || count(&victim) > before + 3);
        let mut image = File::open(mount.of(victim.pid(), "image")).unwrap();
        // A copy-on-write child would be in the way of the forks of this time.
        std::thread::sleep(Duration::from_millis(20));
        let mut bytes = Vec::new();
        let _len = image.read_to_end(&mut bytes).unwrap();
        let open = mount.status()["snapshots"][0]["read_while_stopped"].clone();
        assert!(open.as_str().is_some_and(|reason| reason.contains(limit)), "{}", mount.status());
        drop(image);
    }
    let status = mount.status();
    let reason = status["freezes"][9]["read_while_stopped"].as_str().unwrap_or_default();
    assert!(reason.contains(limit) && reason.contains("copy-on-write child"), "{status}");
    // A pinned snapshot would need a child for as long as it lives.
    let pinned = std::fs::create_dir(mount.of(victim.pid(), "snapshots/now"));
    assert_eq!(pinned.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn a_full_pids_max_is_left_to_the_process() {
    let cgroup = Cgroup::controlled("pids", "pids-max");
    let victim = Victim::ready(&Spec::c("fork_all").arg("3"));
    cgroup.add(victim.pid());
    let before = count(&victim);
    wait::until("all of it is in the cgroup", || count(&victim) > before + 2);
    cgroup.write("pids.max", "4");
    is_read_while_stopped(victim, "pids.max of cgroup");
}

#[test]
fn a_full_rlimit_nproc_is_left_to_the_process() {
    let victim = Victim::ready(&Spec::c("fork_all").arg("3").arg("4").user(USER));
    is_read_while_stopped(victim, "RLIMIT_NPROC of user 54321");
}

/// Where there is room, the process goes on while it is read, and `status` has no reason.
#[test]
fn a_process_with_room_is_not_read_while_stopped() {
    let (victim, mount) = mounted_worker();
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    crate::goes_on_while_held(&victim);
    let status = mount.status();
    assert!(status["snapshots"][0].get("read_while_stopped").is_none(), "{status}");
    drop(held);
    crate::ends_well(victim);
}

#[test]
fn the_child_is_the_first_to_be_killed() {
    let (victim, mount) = mounted_worker();
    let score = |pid| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let before = score(victim.pid());
    let held = File::open(mount.of(victim.pid(), "image")).unwrap();
    let children = process::children(victim.pid());
    assert_eq!(children.iter().map(|child| score(*child)).collect::<Vec<_>>(), ["1000\n"]);
    assert_eq!(score(victim.pid()), before);
    drop(held);
    crate::ends_well(victim);
}

/// The process writes to all of its memory while an image is open, in a cgroup without room for a
/// copy of it.
#[test]
fn the_child_pays_when_memory_runs_out() {
    let cgroup = Cgroup::controlled("memory", "memory-max");
    cgroup.limit_memory(96 << 20);
    for _ in 0..3 {
        let victim = Victim::ready(&Spec::c("rewrites").arg("64"));
        cgroup.add(victim.pid());
        victim.go(1);
        assert_eq!(victim.event(1), Event::Ready(2));
        let mount = Mounted::over(victim.pid());
        let mut image = File::open(mount.of(victim.pid(), "image")).unwrap();
        let len = image.metadata().unwrap().len();
        image.read_exact(&mut vec![0; 5000]).unwrap();
        victim.go(2);
        assert_eq!(victim.event(2), Event::Ok);
        // The reader gets all of the image or an error, never zeros.
        let mut rest = Vec::new();
        if image.read_to_end(&mut rest).is_ok() {
            assert_eq!(rest.len() as u64, len - 5000);
        }
        drop(image);
        victim.finish();
    }
}

//! A daemon that works for long needs no more of anything.

use std::fs;
use std::path::Path;

use ckptfs_tests::worker::{ends_well, worker};
use ckptfs_tests::{Mounted, Victim};

use crate::rounds;

/// Rounds before the first look: pools and caches fill.
const WARM: u32 = 20;

/// More resident memory than this is a leak, in KiB.
const SLACK: u64 = 8 << 10;

/// What a daemon has: descriptors, threads, resident memory in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    descriptors: usize,
    threads: usize,
    resident: u64,
}

impl Usage {
    pub fn of(mount: &Mounted) -> Usage {
        let dir = format!("/proc/{}", mount.daemon());
        let count = |name: &str| fs::read_dir(Path::new(&dir).join(name)).unwrap().count();
        let status = fs::read_to_string(format!("{dir}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Usage { descriptors: count("fd"), threads: count("task"), resident }
    }

    /// A few descriptors and threads more.
    pub fn and_some(self) -> Usage {
        Usage { descriptors: self.descriptors + 4, threads: self.threads + 4, ..self }
    }

    /// Waits for what the last round has left to end: it ends a moment after close(2).
    pub fn settled(mount: &Mounted, as_few_as: Usage) -> Usage {
        let is_settled = |now: Usage| now.descriptors <= as_few_as.descriptors && now.threads <= as_few_as.threads;
        ckptfs_tests::wait::until("it has as few descriptors and threads as before", || is_settled(Usage::of(mount)));
        Usage::of(mount)
    }
}

/// Repeats `work`. The daemon must then have no more than before.
fn stays_flat(what: &str, times: u32, victim: &mut Victim, mut work: impl FnMut(&mut Victim, &Mounted, &Path)) {
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let fresh = Usage::of(&mount);
    (0..WARM).for_each(|_| work(victim, &mount, &snap));
    // A restored process has a thread and a descriptor of the daemon as long as it lives.
    let before = Usage::settled(&mount, fresh.and_some());
    (0..times).for_each(|_| work(victim, &mount, &snap));
    let after = Usage::settled(&mount, before);
    println!("{times} {what}: {before:?}, then {after:?}");
    assert!(after.resident <= before.resident + SLACK, "{what}: {before:?}, then {after:?}");
}

#[test]
fn dumps_are_flat() {
    let mut victim = worker();
    stays_flat("dumps", rounds(60), &mut victim, |victim, mount, snap| mount.dump(victim.pid(), snap));
    ends_well(victim);
}

#[test]
fn restores_are_flat() {
    let mut victim = worker();
    stays_flat("restores", rounds(6), &mut victim, |victim, mount, snap| {
        victim.kill();
        mount.restore(snap);
    });
    ends_well(victim);
}

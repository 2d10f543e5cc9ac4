//! The mount under the hands of ordinary tools: what a user types, and what must not come of it. One file for each operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abuse;
mod changed_files;
mod command;
mod container;
mod container_image;
mod control;
mod core;
mod crawl;
mod harm;
mod lifetime;
mod pinned;
mod read;
mod restore;
mod size;
mod stored;
mod vmas;

use std::fs;
use std::path::Path;

use ckptfs_tests::{Event, Mounted, Spec, Victim, process, wait};

/// Where the worker and the sparse victim have their mapping.
const MAPPING: u64 = 0x2000_0000_0000;

/// A victim that works all the while and knows when it was disturbed.
fn worker() -> Victim {
    Victim::ready(&Spec::c("worker"))
}

/// The worker and a mount over it.
fn mounted_worker() -> (Victim, Mounted) {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    (victim, mount)
}

/// How far the worker got.
fn count(victim: &Victim) -> u64 {
    let text = fs::read_to_string(victim.dir().join("count")).unwrap();
    text.trim().parse().unwrap_or_default()
}

/// The worker goes on now, and nobody is left beside it or holds it.
fn goes_on(victim: &Victim) {
    let before = count(victim);
    wait::until("the worker goes on", || count(victim) > before + 2);
    wait::until("the snapshot's child is gone", || process::children(victim.pid()).is_empty());
}

/// The worker ends by itself, and ends well.
fn ends_well(victim: Victim) {
    goes_on(&victim);
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("listing {}: {error}", dir.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The pids among the names in the mount.
fn pids(mount: &Mounted) -> Vec<i32> {
    names(&mount.path()).iter().filter_map(|name| name.parse().ok()).collect()
}

/// The worker goes on now, while a snapshot of it may be held open.
fn goes_on_while_held(victim: &Victim) {
    let before = count(victim);
    wait::until("the worker goes on", || count(victim) > before + 2);
}

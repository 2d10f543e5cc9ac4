//! The mount as ordinary tools use it: what a user types, and what must not happen. There is one
//! file for each operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abuse;
mod attach;
mod attack_hidden;
mod attack_restore;
mod attack_rights;
mod background;
mod bound;
mod broken_off;
mod bystanders;
mod cached;
mod changed_files;
mod check;
mod clocks;
mod command;
mod container;
mod container_image;
mod control;
mod core;
mod crawl;
mod fair;
mod footprint;
mod harm;
mod image;
mod killed;
mod lifetime;
mod odd_names;
mod outside_terminal;
mod own_entries;
mod pinned;
mod read;
mod restore;
mod room;
mod sharing;
mod signed;
mod size;
mod stored;
mod terminal;
mod tools;
mod vmas;

use std::fs;
use std::path::Path;

use ckptfs_tests::worker::{count, ends_well, goes_on, worker};
use ckptfs_tests::{Mounted, Victim, as_nobody, wait};

/// The address of the mapping in the worker and in the sparse victim.
const MAPPING: u64 = 0x2000_0000_0000;

/// The worker and a mount over it.
fn mounted_worker() -> (Victim, Mounted) {
    let victim = worker();
    let mount = Mounted::over(victim.pid());
    (victim, mount)
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

/// Asserts that the worker runs. A snapshot of it may still be open.
fn goes_on_while_held(victim: &Victim) {
    let before = count(victim);
    wait::until("the worker goes on", || count(victim) > before + 2);
}

//! Who has a file of a mount open.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ckptfs_dumper::proc::{Fields, descriptor_tables, mounts, mounts_of, numbers};

/// How long a search for holders may take. A busy machine with thousands of descriptors needs more
/// than a second.
const SEARCH: Duration = Duration::from_secs(5);

/// A file of a mount, by which it is recognized in /proc. A stat(2) of it would ask this daemon,
/// which may be the caller.
pub struct MountedFile {
    /// The file is at this path, if nothing was mounted over it since.
    pub path: PathBuf,
    /// Its inode number.
    pub ino: u64,
}

impl MountedFile {
    /// Whether a process has it open. If the search takes long, it ends, and the file counts as
    /// open.
    pub fn may_be_open(self) -> bool {
        let (found, finding) = mpsc::channel();
        let searching = std::thread::Builder::new().name("holders".into()).spawn(move || {
            // Nobody listens any more after a search that took long.
            let _ = found.send(self.is_open(Instant::now() + SEARCH));
        });
        searching.is_err() || finding.recv_timeout(SEARCH).unwrap_or(true)
    }

    /// Whether a process has it open, or it is not known at `end`. A file of a mount that this
    /// process does not see may be taken for it.
    fn is_open(&self, end: Instant) -> bool {
        // The one that was mounted last is in front of the others.
        let own = mounts().unwrap_or_default().into_iter().rev();
        let device = own.into_iter().find(|mount| Some(&*mount.mountpoint) == self.path.parent());
        let device = device.map(|mount| mount.device);
        let pids = numbers("/proc").unwrap_or_default();
        let mut tables = pids.into_iter().flat_map(descriptor_tables);
        tables.any(|table| self.is_open_in(&table, device.as_deref(), end))
    }

    /// Whether it is open in the descriptor table of a task, whose directory in /proc is `task`.
    ///
    /// A process in execve(2) closes its files (FLUSH) while it holds its `exec_update_lock`
    /// (`begin_new_exec` in fs/exec.c). A read of the links in `fd` waits for that lock, so this
    /// search would wait for a process that waits for the answer. `fdinfo` takes no lock.
    fn is_open_in(&self, task: &str, device: Option<&str>, end: Instant) -> bool {
        numbers(&format!("{task}/fdinfo")).unwrap_or_default().into_iter().any(|number| {
            if Instant::now() >= end {
                return true;
            }
            let Ok(info) = Fields::read(&format!("{task}/fdinfo/{number}")) else { return false };
            if info.number("ino") != self.ino {
                return false;
            }
            let mounts = mounts_of(task).unwrap_or_default();
            let of_mount = mounts.iter().find(|mount| mount.id == info.number("mnt_id"));
            let is_other = of_mount.is_some_and(|mount| device.is_some_and(|device| device != mount.device));
            !is_other
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_open_file_is_found_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restore");
        let open = fs::File::create(&path).unwrap();
        let ino = open.metadata().unwrap().ino();
        let is_open = |ino: u64| MountedFile { path: path.clone(), ino }.is_open(Instant::now() + 60 * SEARCH);
        assert!(is_open(ino));
        assert!(!is_open(ino + (1 << 40)));
        let again = open.try_clone().unwrap();
        drop(open);
        assert!(is_open(ino));
        drop(again);
        assert!(MountedFile { path: dir.path().join("none"), ino }.is_open(Instant::now()), "not known in time");
        // A child that another test starts has a copy of it for a moment.
        let is_closed = || (0..1000).any(|_| !is_open(ino));
        assert!(is_closed());
    }

    /// The file is open in another mount with the same inode number.
    #[test]
    fn mounts_are_told_apart() {
        let open = fs::File::open("/proc/self/status").unwrap();
        let ino = open.metadata().unwrap().ino();
        let is_open = |path: &str| MountedFile { path: path.into(), ino }.is_open(Instant::now() + 60 * SEARCH);
        assert!(is_open("/proc/status"));
        assert!(!is_open("/status"), "the device of / is another one");
    }
}

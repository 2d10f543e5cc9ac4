//! Who has a file of a mount open.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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
    ///
    /// A process in execve(2) closes its files (FLUSH) while it holds its `exec_update_lock`
    /// (`begin_new_exec` in fs/exec.c), and a read of its /proc entries waits for that lock. The
    /// search would wait for a process that waits for the answer.
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
        let device = device_at(&read("/proc/self/mountinfo".as_ref()), self.path.parent());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).any(|process| {
            // The threads of a process may have descriptors of their own.
            let threads = fs::read_dir(process.path().join("task")).into_iter().flatten().flatten();
            threads.into_iter().any(|thread| self.is_open_in(&thread.path(), device.as_deref(), end))
        })
    }

    fn is_open_in(&self, thread: &Path, device: Option<&str>, end: Instant) -> bool {
        let descriptors = fs::read_dir(thread.join("fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|descriptor| {
            if Instant::now() >= end {
                return true;
            }
            // Its path may be another one there, but not its name.
            let is_named = |path: PathBuf| path.file_name() == self.path.file_name();
            if !fs::read_link(descriptor.path()).is_ok_and(is_named) {
                return false;
            }
            let info = read(&thread.join("fdinfo").join(descriptor.file_name()));
            let number = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            let of_mount = number("mnt_id:").and_then(|id| device_of(&read(&thread.join("mountinfo")), id));
            let is_other = |of_mount: &str| device.is_some_and(|device| device != of_mount);
            number("ino:") == Some(self.ino) && !of_mount.is_some_and(|of_mount| is_other(&of_mount))
        })
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// The device number of the filesystem that was mounted last at `mountpoint`, in the text of a
/// `mountinfo`.
fn device_at(mountinfo: &str, mountpoint: Option<&Path>) -> Option<String> {
    let words = mountinfo.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = words.into_iter().find(|words| words.get(4).map(Path::new) == mountpoint)?;
    found.get(2).map(|device| (*device).to_owned())
}

/// The device number of the mount with this id.
fn device_of(mountinfo: &str, id: u64) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    line.split(' ').nth(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_open_file_is_found_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = fs::File::create(dir.path().join("restore")).unwrap();
        let ino = open.metadata().unwrap().ino();
        let is_open = |name: &str, ino: u64| {
            MountedFile { path: dir.path().join(name), ino }.is_open(Instant::now() + 60 * SEARCH)
        };
        assert!(is_open("restore", ino));
        assert!(!is_open("image", ino));
        assert!(!is_open("restore", ino + (1 << 40)));
        let again = open.try_clone().unwrap();
        drop(open);
        assert!(is_open("restore", ino));
        drop(again);
        assert!(MountedFile { path: dir.path().join("none"), ino }.is_open(Instant::now()), "not known in time");
        // A child that another test starts has a copy of it for a moment.
        let is_closed = || (0..1000).any(|_| !is_open("restore", ino));
        assert!(is_closed());
    }

    #[test]
    fn mounts_are_told_apart() {
        let text = "36 35 0:40 / /a rw - fuse.ckptfs ckptfs rw\n37 35 0:41 / /b rw - fuse.ckptfs ckptfs rw\n\
                    38 35 0:42 / /a rw - fuse.ckptfs ckptfs rw\n";
        assert_eq!(device_at(text, Some(Path::new("/a"))).as_deref(), Some("0:42"));
        assert_eq!(device_at(text, Some(Path::new("/c"))), None);
        assert_eq!((device_of(text, 37).as_deref(), device_of(text, 7)), (Some("0:41"), None));
    }
}

//! Descriptors of this process and of others.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ckptfs_dumper::{Doing, Pid, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Closes all descriptors of the calling thread from the number `first` on. None of them may be in
/// use.
pub fn close_from(first: i32) -> Result<()> {
    let listed = std::fs::read_dir("/proc/thread-self/fd").doing(|| "listing the open descriptors")?;
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number >= first).collect::<Vec<_>>() {
        // The descriptor of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// The inode numbers of the files on the device `(major, minor)` that a thread has open. The kernel
/// answers without the server of the filesystem (statx(2), AT_STATX_DONT_SYNC).
pub fn inodes_on(device: (u32, u32), thread: Pid) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{thread}/fd")).into_iter().flatten().flatten();
    let on_device = entries.filter_map(|entry| Some((inode_on(device, &entry.path())?, entry.path())));
    on_device.filter(|(_, path)| opens_contents(path)).map(|(ino, _)| ino).collect()
}

/// The inode number of the file that the link of a descriptor leads to, if it is on the device.
fn inode_on(device: (u32, u32), path: &Path) -> Option<u64> {
    let facts = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    ((facts.stx_dev_major, facts.stx_dev_minor) == device).then_some(facts.stx_ino)
}

/// Whether a descriptor was opened to read or to write. One with O_PATH holds nothing, and its link
/// in /proc has no permission bits (proc_pid_fd(5)).
fn opens_contents(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|link| link.mode() & 0o600 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn a_descriptor_that_stands_for_a_path_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let facts = std::fs::metadata(&path).unwrap();
        let device = (rustix::fs::major(facts.dev()), rustix::fs::minor(facts.dev()));
        let holds = || inodes_on(device, std::process::id() as Pid).contains(&facts.ino());
        let by_path = std::fs::File::options().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
        assert!(!holds());
        let open = std::fs::File::open(&path).unwrap();
        assert!(holds());
        drop((by_path, open));
    }
}

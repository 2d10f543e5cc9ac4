//! Descriptors of this process and of others.

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
    let facts = entries.filter_map(|entry| statx(CWD, entry.path(), AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok());
    facts.filter(|facts| (facts.stx_dev_major, facts.stx_dev_minor) == device).map(|facts| facts.stx_ino).collect()
}

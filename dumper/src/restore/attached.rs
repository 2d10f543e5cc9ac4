//! An attached segment of System V shared memory, as shmat(2) wants it.

use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use crate::error::{Doing, Result};
use crate::sys::proc::status::Fields;

/// An attached segment of System V shared memory.
#[derive(Clone, Copy)]
pub struct Attached {
    /// Its id, shmget(2).
    pub id: u64,
    /// Bytes.
    pub size: u64,
    /// SHM_RDONLY.
    pub read_only: bool,
}

impl Attached {
    /// From a descriptor of the segment's pages: its inode number is the id of the segment, and its
    /// access mode that of the attachment.
    pub fn of(fd: RawFd) -> Result<Self> {
        let flags = Fields::read(&format!("/proc/self/fdinfo/{fd}"))?.octal("flags") as i32;
        let stat = std::fs::metadata(format!("/proc/self/fd/{fd}"));
        let stat = stat.doing(|| "stat of shared memory")?;
        Ok(Self { id: stat.ino(), size: stat.size(), read_only: flags & libc::O_ACCMODE == libc::O_RDONLY })
    }
}

//! Files that are read without another process noticing it. A record may name any file.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::kind::observed::open_path;
use crate::sys::proc::{locks, mountinfo};

/// What must not be opened.
pub struct Unnoticed {
    /// Mounts that must not be read: where that could mean waiting for a process.
    avoided: Vec<PathBuf>,
    /// How many bytes may still be read.
    budget: Cell<u64>,
    /// Files with a lease, by device and inode. Opening one would break the lease.
    leased: BTreeSet<(u64, u64)>,
}

/// The type of this project's mounts, as mount(8) shows it.
const OWN_KIND: &[u8] = b"fuse.ckptfs";

/// Filesystems that a process or another machine answers for, by the beginning of their type. The
/// process may be one that is stopped.
const SERVED: [&[u8]; 8] = [b"fuse", b"nfs", b"cifs", b"smb", b"9p", b"ceph", b"afs", b"autofs"];

/// Whether a process or another machine answers for filesystems of this type.
pub fn is_served(kind: &[u8]) -> bool {
    SERVED.iter().any(|served| kind.starts_with(served))
}

/// How many bytes are read for one image.
const READ_MOST: u64 = 64 << 20;

impl Unnoticed {
    /// As the machine is now. Mounts of this program are avoided: reading one could mean waiting
    /// for this very process.
    pub fn now() -> Result<Self> {
        Self::without(|kind| kind == OWN_KIND)
    }

    /// The same, for files that this machine's kernel alone answers for.
    pub fn local() -> Result<Self> {
        Self::without(is_served)
    }

    fn without(is_avoided: impl Fn(&[u8]) -> bool) -> Result<Self> {
        let avoided = mountinfo::mounts()?.into_iter().filter(|mount| is_avoided(&mount.kind));
        let avoided = avoided.map(|mount| mount.mountpoint).collect();
        Ok(Self { avoided, budget: Cell::new(READ_MOST), leased: locks::leased()? })
    }

    /// Whether so many bytes may be read. They count as read then.
    pub fn may_read(&self, bytes: u64) -> bool {
        let left = self.budget.get().checked_sub(bytes);
        self.budget.set(left.unwrap_or(self.budget.get()));
        left.is_some()
    }

    /// Opens the file at `path` for reading. `None` if it is not `wanted`, or if opening it could
    /// be noticed.
    pub fn open(&self, path: &Path, wanted: impl Fn(&Metadata) -> bool) -> Option<File> {
        if self.avoided.iter().any(|mountpoint| path.starts_with(mountpoint)) {
            return None;
        }
        let before = open_path(path, libc::O_PATH).ok()?.metadata().ok()?;
        if !before.is_file() || !wanted(&before) || self.leased.contains(&(before.dev(), before.ino())) {
            return None;
        }
        let file = open_path(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOATIME);
        // O_NOATIME is only for the owner and root.
        file.or_else(|_| open_path(path, libc::O_RDONLY | libc::O_NONBLOCK)).ok()
    }
}

//! When a file was last read and changed, for files that a restore creates anew.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};

/// Seconds and nanoseconds since the epoch of the last access and the last change of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTimes {
    atime: (i64, i64),
    mtime: (i64, i64),
}

impl FileTimes {
    /// As stat(2) shows them.
    pub fn of(stat: &Metadata) -> Self {
        Self { atime: (stat.atime(), stat.atime_nsec()), mtime: (stat.mtime(), stat.mtime_nsec()) }
    }

    /// Restores them (futimens(3)).
    pub fn restore(&self, fd: &OwnedFd) -> Result<()> {
        let spec = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
        futimens(fd, &spec(self.atime), &spec(self.mtime)).doing(|| "setting the times of a file")
    }

    /// Restores them by a name that leads to the file itself.
    pub fn restore_at(&self, name: &str) -> Result<()> {
        let spec = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
        let (atime, mtime) = (spec(self.atime), spec(self.mtime));
        utimensat(AT_FDCWD, name, &atime, &mtime, UtimensatFlags::FollowSymlink).doing(|| "setting the times of a file")
    }
}

//! Owner and mode of a file that a restore creates anew.

use std::fmt;
use std::fs::{Metadata, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};

/// Part of the record of such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Owner {
    /// As stat(2) shows them.
    pub fn of(stat: &Metadata) -> Self {
        Self { mode: stat.mode() & 0o7777, uid: stat.uid(), gid: stat.gid() }
    }

    /// Restores them. `doing` describes the attempt in errors.
    pub fn restore<D: fmt::Display>(&self, fd: &OwnedFd, doing: impl Fn() -> D) -> Result<()> {
        // The owner comes before the mode: a change of owner clears set-user-ID.
        fchown(fd, Some(self.uid.into()), Some(self.gid.into())).doing(&doing)?;
        fchmod(fd.as_fd(), Mode::from_bits_truncate(self.mode)).doing(&doing)
    }

    /// Restores them by a name that leads to the file itself. `has_mode`: a symbolic link has none.
    pub fn restore_at<D: fmt::Display>(&self, name: &str, has_mode: bool, doing: impl Fn() -> D) -> Result<()> {
        std::os::unix::fs::chown(name, Some(self.uid), Some(self.gid)).doing(&doing)?;
        if has_mode {
            std::fs::set_permissions(name, Permissions::from_mode(self.mode)).doing(&doing)?;
        }
        Ok(())
    }
}

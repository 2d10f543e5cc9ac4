//! How much of the daemon's memory the open files of a user may take.

use std::sync::Arc;

use ckptfs_dumper::{Error, Result};

use crate::process::caller::Viewer;
use crate::state::quota::{Bounds, Place, Quota, USERS};

/// How many files and directories of a mount one user other than root may have open.
const HANDLES_OF_A_USER: u64 = 4096;

/// How many bytes the texts and listings may have that one user other than root has open.
const BYTES_OF_A_USER: u64 = 64 << 20;

/// What the open files of each user take.
#[derive(Default)]
pub struct HandleRoom {
    handles: Arc<Quota>,
    bytes: Arc<Quota>,
}

impl HandleRoom {
    /// One more open file of `uid`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn handle(&self, uid: u32) -> Result<Place> {
        let full = |_| {
            full(format!(
                "user {uid} has {HANDLES_OF_A_USER} files of the mount open already, or all users {USERS} times as many"
            ))
        };
        self.handles.take(Bounds::of_user(HANDLES_OF_A_USER), uid, 1).map_err(full)
    }

    /// `bytes` more of `uid`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn memory(&self, uid: u32, bytes: usize) -> Result<Option<Place>> {
        if bytes == 0 || Viewer::of(uid) == Viewer::All {
            return Ok(None);
        }
        let most = BYTES_OF_A_USER >> 20;
        let full = |_| {
            full(format!(
                "user {uid} has {most} MiB of texts and listings of the mount open already, or all users {USERS} times as many"
            ))
        };
        self.bytes.take(Bounds::of_user(BYTES_OF_A_USER), uid, bytes as u64).map_err(full).map(Some)
    }
}

fn full(sentence: String) -> Error {
    Error::os(sentence, libc::EMFILE)
}

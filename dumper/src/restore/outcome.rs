//! The outcome of a restore.

use std::time::Duration;

use crate::sys::pid::Pid;

/// One restored image.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The first root.
    pub root: Pid,
    /// Every process.
    pub pids: Vec<Pid>,
    /// Length of the image.
    pub bytes: u64,
    /// From its first byte to its last.
    pub elapsed: Duration,
    /// What the caller of the restore should know, such as files that have become too short.
    pub warnings: Vec<String>,
}

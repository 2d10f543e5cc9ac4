//! What came of a restore.

use std::time::Duration;

use crate::sys::pid::Pid;

/// One image that lives again.
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
    /// What whoever restored it should know: files that have become too short meanwhile.
    pub warnings: Vec<String>,
}

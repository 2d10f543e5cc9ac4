//! The outcome of a restore.

use std::sync::Arc;
use std::time::Duration;

use crate::sys::pid::Pid;
use crate::sys::tty::Pty;

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
    /// How it came to the foreground of its caller's terminal, if that was asked for.
    pub attached: Option<InForeground>,
}

/// A tree in the foreground of its caller's terminal.
#[derive(Clone, Debug)]
pub struct InForeground {
    /// The process group of the root.
    pub group: Pid,
    /// The terminal of the tree, if that is not the caller's own: the caller has to copy bytes
    /// between the two.
    pub pty: Option<Arc<Pty>>,
}

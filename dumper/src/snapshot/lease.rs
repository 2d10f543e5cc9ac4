//! How a session learns that a snapshot of its own was dropped.

use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

/// How long a dropped snapshot waits until its session has let go of what it was read from.
const PATIENCE: Duration = Duration::from_secs(5);

/// A snapshot's hold on what it is read from. Dropping it releases that, and waits for it.
pub struct Lease {
    /// Which snapshot of the session it is.
    pub snapshot: u64,
    /// The session.
    pub session: Sender<Release>,
}

/// A snapshot was dropped.
pub struct Release {
    /// Which one.
    pub snapshot: u64,
    /// Answered when nothing is left of it.
    pub done: Sender<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (done, wait) = bounded(1);
        // Waits, so that no child is visible any more after the last close.
        if self.session.send(Release { snapshot: self.snapshot, done }).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

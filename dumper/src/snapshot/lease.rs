//! How a session learns that one of its snapshots was dropped.

use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

/// How long a dropped snapshot waits for its session to release the source.
const PATIENCE: Duration = Duration::from_secs(5);

/// A snapshot's hold on its source. Dropping it releases the source, and waits for that.
pub struct Lease {
    /// The number of the snapshot in its session.
    pub snapshot: u64,
    /// The session.
    pub session: Sender<Release>,
}

/// A snapshot was dropped.
pub struct Release {
    /// The number of the snapshot.
    pub snapshot: u64,
    /// Answered when the source is released.
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

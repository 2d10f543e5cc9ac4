//! The end of a snapshot is told to the thread that holds what it is read from.

use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

/// Tells a session that a snapshot is gone: which of its own.
pub struct Lease(pub u64, pub Sender<Release>);

/// A snapshot is gone; to be answered when nothing is left of it.
pub struct Release(pub u64, pub Sender<()>);

impl Drop for Lease {
    fn drop(&mut self) {
        let (done, wait) = bounded(1);
        // Waits, so that after the last close there is no child left to be seen.
        if self.1.send(Release(self.0, done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(5));
        }
    }
}

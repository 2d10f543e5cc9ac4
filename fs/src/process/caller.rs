//! The caller that makes a request.
//!
//! The kernel has already checked the mode bits of the file (`default_permissions`). But a process,
//! and each process of its tree, may have changed its user since then by executing a set-user-ID
//! program.

use ckptfs_dumper::{Identity, Pid};

/// A thread that makes a request, as the request describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its thread id, or 0 if it is in a pid namespace outside the daemon's.
    pub thread: Pid,
    /// Its filesystem user id.
    pub uid: u32,
    /// Its filesystem group id.
    pub gid: u32,
}

impl Caller {
    /// Who it is. To be called before the request is answered: until then the thread waits. Later
    /// its number may belong to another thread.
    pub fn identify(self) -> Identity {
        Identity::of_request(self.thread, self.uid, self.gid)
    }
}

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

/// Whose entries a file that tells about many users' processes shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Viewer {
    /// Those of everybody: for root and the user of the daemon.
    All,
    /// Those of one user.
    User(u32),
}

impl Viewer {
    /// What the user `uid` sees.
    pub fn of(uid: u32) -> Viewer {
        if uid == 0 || uid == nix::unistd::geteuid().as_raw() { Viewer::All } else { Viewer::User(uid) }
    }

    /// Whether it sees what belongs to `owner`. What belongs to several users, or to nobody known,
    /// has none.
    pub fn sees(self, owner: Option<u32>) -> bool {
        match self {
            Viewer::All => true,
            Viewer::User(uid) => owner == Some(uid),
        }
    }
}

impl Caller {
    /// Whose entries it sees.
    pub fn viewer(self) -> Viewer {
        Viewer::of(self.uid)
    }

    /// Who it is. To be called before the request is answered: until then the thread waits. Later
    /// its number may belong to another thread.
    pub fn identify(self) -> Identity {
        Identity::of_request(self.thread, self.uid, self.gid)
    }
}

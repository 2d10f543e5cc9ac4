//! The caller that opens a file.
//!
//! The kernel has already checked the mode bits of the file (`default_permissions`). But a process,
//! and each process of its tree, may have changed its user since then by executing a set-user-ID
//! program.

use ckptfs_dumper::Pid;
use ckptfs_dumper::proc::Fields;

/// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7).
const OVERRIDES: u64 = 1 << 1 | 1 << 2;

/// A thread that opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its thread id, or 0 if it is in a pid namespace outside the daemon's.
    pub thread: Pid,
    /// Its filesystem user id.
    pub uid: u32,
}

impl Caller {
    /// Whether it may do what only the user `owner` may.
    pub fn may_as(self, owner: u32) -> bool {
        self.uid == 0 || self.uid == owner || self.overrides()
    }

    /// Whether it may ignore permission bits.
    fn overrides(self) -> bool {
        let status = Fields::read(&format!("/proc/{}/status", self.thread));
        status.is_ok_and(|status| status.hex("CapEff") & OVERRIDES != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_owner_and_a_capable_thread_may() {
        let caller = |uid, thread| Caller { thread, uid };
        assert!(caller(0, 0).may_as(7) && caller(7, 0).may_as(7));
        assert!(!caller(7, 0).may_as(0) && !caller(7, 0).may_as(8), "thread 0 has no capabilities");
        assert!(caller(7, 1).may_as(8), "init has all capabilities");
        assert!(!caller(7, 2_000_000_000).may_as(8));
    }
}

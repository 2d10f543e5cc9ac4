//! Who opens a file. The kernel has compared him with what stat(2) told of it (`default_permissions`); but a process may have become
//! somebody else's since, by executing a set-user-ID program, and so may any of its tree.

use ckptfs_dumper::Pid;
use ckptfs_dumper::proc::Fields;

/// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7).
const OVERRIDES: u64 = 1 << 1 | 1 << 2;

/// A thread that opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its number; 0 where the daemon cannot see it.
    pub thread: Pid,
    /// Its user, as filesystems see him.
    pub uid: u32,
}

impl Caller {
    /// Whether it may do what only `owner` may.
    pub fn may_as(self, owner: u32) -> bool {
        self.uid == 0 || self.uid == owner || self.overrides()
    }

    /// Whether permission bits are nothing to it.
    fn overrides(self) -> bool {
        let status = Fields::read(&format!("/proc/{}/status", self.thread));
        status.is_ok_and(|status| status.hex("CapEff") & OVERRIDES != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_owner_and_who_overrides() {
        let caller = |uid, thread| Caller { thread, uid };
        assert!(caller(0, 0).may_as(7) && caller(7, 0).may_as(7));
        assert!(!caller(7, 0).may_as(0) && !caller(7, 0).may_as(8), "nobody is known to override");
        assert!(caller(7, 1).may_as(8), "init has all capabilities");
        assert!(!caller(7, 2_000_000_000).may_as(8));
    }
}

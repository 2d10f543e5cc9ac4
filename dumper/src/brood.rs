//! Processes that are not to be unless the restore comes to its end: killed and reaped on Drop.

use std::time::Duration;

use crate::Pid;
use crate::sys::{proc, query};

const PATIENCE: Duration = Duration::from_secs(10);

/// The processes made so far. To be dropped before whatever traces them.
#[derive(Default)]
pub struct Brood(Vec<Pid>);

impl Brood {
    /// One more.
    pub fn add(&mut self, pid: Pid) {
        self.0.push(pid);
    }

    /// One has ended and is reaped: its number is anybody's.
    pub fn forget(&mut self, pid: Pid) {
        self.0.retain(|other| *other != pid);
    }

    /// They live from here on.
    pub fn set_free(&mut self) {
        self.0.clear();
    }
}

impl Drop for Brood {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // Those whose parent dies first are handed to us instead of to init, so that they can be reaped here. Whoever else loses
        // a parent in this moment is ours as well, until we end.
        let was = query::set_subreaper(true);
        for pid in &self.0 {
            let _ = query::kill(*pid, libc::SIGKILL);
        }
        for pid in self.0.iter().rev() {
            // A thread that was traced from birth and never adopted is a zombie of ours, and the leader's end is not told
            // before its own; one that is not ours gives ECHILD.
            for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
                if tid != *pid {
                    let _ = query::wait_ended(tid, PATIENCE);
                }
            }
            let _ = query::wait_ended(*pid, PATIENCE);
        }
        // As tracer that was; now as whoever inherited them.
        for pid in self.0.iter().rev() {
            let _ = query::reap(*pid, PATIENCE);
        }
        if !was {
            query::set_subreaper(false);
        }
    }
}

//! Processes that are not to be unless the restore comes to its end: killed and reaped on Drop.
//!
//! By pidfds and not by numbers: one may have ended and been asked for by its parent in the middle
//! of it all, and its number be anybody's.

use std::time::Duration;

use crate::error::Result;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::{proc, wait};

const PATIENCE: Duration = Duration::from_secs(10);

/// The processes made so far. To be dropped before whatever traces them.
#[derive(Default)]
pub struct KillOnDrop(Vec<PidFd>);

impl KillOnDrop {
    /// One more. It was just made by this thread, as its child or traced from birth: nobody else
    /// can have asked for its end.
    pub fn add(&mut self, pid: Pid) -> Result<()> {
        let opened = PidFd::open(pid);
        if opened.is_err() {
            let _ = wait::kill(pid, libc::SIGKILL);
            let _ = wait::wait_ended(pid, PATIENCE);
        }
        self.0.push(opened?);
        Ok(())
    }

    /// One has ended and is reaped.
    pub fn forget(&mut self, pid: Pid) {
        self.0.retain(|other| other.pid() != pid);
    }

    /// They live from here on.
    pub fn set_free(&mut self) {
        self.0.clear();
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // Those whose parent dies first are handed to us instead of to init, so that they can be
        // reaped here. Whoever else loses a parent in this moment is ours as well, until we end.
        let was = wait::set_subreaper(true);
        for process in &self.0 {
            let _ = process.kill(libc::SIGKILL);
        }
        for process in self.0.iter().rev() {
            // A thread that was traced from birth and never adopted is a zombie of ours, and the
            // leader's end is not told before its own; one that is not ours gives ECHILD.
            for tid in proc::numbers(&format!("/proc/{}/task", process.pid())).unwrap_or_default() {
                if tid != process.pid() {
                    let _ = wait::wait_ended(tid, PATIENCE);
                }
            }
            let _ = process.wait_ended(true, PATIENCE);
        }
        // As tracer that was; now as whoever inherited them.
        for process in self.0.iter().rev() {
            let _ = process.wait_ended(false, PATIENCE);
        }
        if !was {
            wait::set_subreaper(false);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys::clone;

    /// Needs root, as whoever chooses a pid does.
    #[test]
    fn a_number_that_is_somebody_elses_by_now_is_left_alone() {
        let mut rollback = KillOnDrop::default();
        let mut first = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = first.id() as Pid;
        rollback.add(pid).unwrap();
        first.kill().unwrap();
        first.wait().unwrap();
        clone::spawn(pid).unwrap();
        let mut living = Command::new("sleep").arg("100").spawn().unwrap();
        rollback.add(living.id() as Pid).unwrap();
        drop(rollback);
        assert!(living.try_wait().is_err(), "it was killed and reaped");
        let second = PidFd::open(pid).unwrap();
        assert!(!second.has_ended());
        second.kill(libc::SIGKILL).unwrap();
        assert!(second.wait_ended(false, PATIENCE).unwrap());
        assert!(!second.wait_ended(false, PATIENCE).unwrap());
    }
}

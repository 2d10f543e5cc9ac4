//! The new processes of a restore are killed and reaped on Drop, unless the restore has succeeded.
//!
//! They are held by pidfd and not by number: during a restore one may end and be reaped by its
//! parent, and its number may then belong to an unrelated process.

use std::time::Duration;

use crate::error::Result;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::{proc, wait};

/// How long the end of one killed process is awaited. It takes microseconds, unless the process
/// sleeps uninterruptibly.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The processes made so far. It must be dropped before their tracees are detached.
#[derive(Default)]
pub struct KillOnDrop(Vec<PidFd>);

impl KillOnDrop {
    /// Adds a process that this thread has just made, as its child or traced from birth: its end
    /// can have been reaped by no other process yet.
    pub fn add(&mut self, pid: Pid) -> Result<()> {
        let opened = PidFd::open(pid);
        if opened.is_err() {
            let _ = wait::kill(pid, libc::SIGKILL);
            let _ = wait::wait_ended(pid, EXIT_TIMEOUT);
        }
        self.0.push(opened?);
        Ok(())
    }

    /// Removes one that has ended and is reaped.
    pub fn forget(&mut self, pid: Pid) {
        self.0.retain(|other| other.pid() != pid);
    }

    /// The restore has succeeded: they stay alive.
    pub fn set_free(&mut self) {
        self.0.clear();
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // A process whose parent dies first is given to this daemon instead of init, so that it can
        // be reaped here. Other orphans of this moment come to the daemon as well, until it ends.
        let was = wait::set_subreaper(true);
        for process in &self.0 {
            let _ = process.kill(libc::SIGKILL);
        }
        for process in self.0.iter().rev() {
            // A thread that was traced from birth and never adopted is a zombie of this thread. The
            // leader's end is reported only after it is reaped. Another thread's tracee: ECHILD.
            for tid in proc::numbers(&format!("/proc/{}/task", process.pid())).unwrap_or_default() {
                if tid != process.pid() {
                    let _ = wait::wait_ended(tid, EXIT_TIMEOUT);
                }
            }
            let _ = process.wait_ended(true, EXIT_TIMEOUT);
        }
        // The first round reaped them as their tracer, this one as their new parent.
        for process in self.0.iter().rev() {
            let _ = process.wait_ended(false, EXIT_TIMEOUT);
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

    /// Needs root: only root may choose a pid.
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
        assert!(second.wait_ended(false, EXIT_TIMEOUT).unwrap());
        assert!(!second.wait_ended(false, EXIT_TIMEOUT).unwrap());
    }
}

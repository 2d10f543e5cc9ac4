//! What holds a pid that a restore needs, and whether the pid will soon be free.
//!
//! A user may kill a process and restore it at once, before the process has fully ended. The
//! process frees gigabytes of memory, then its parent must ask for its status, and the kernel
//! removes a process from /proc before it frees its id (`release_task` in kernel/exit.c).

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// How long to wait for the end of a dying process, which may have to free much memory.
const DYING_LIMIT: Duration = Duration::from_secs(10);
/// How long a parent may take to reap, and the kernel to free the id of a process that has left
/// /proc.
const LINGERING_LIMIT: Duration = Duration::from_secs(2);
/// Time between two checks.
const STEP: Duration = Duration::from_millis(1);

/// The bit of SIGKILL in a set of signals.
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// A pid that a restore needs.
pub struct WantedPid {
    pid: Pid,
    since: Instant,
}

impl WantedPid {
    /// `pid` is wanted from now on.
    pub fn new(pid: Pid) -> WantedPid {
        WantedPid { pid, since: Instant::now() }
    }

    /// Call this when the pid was found taken. It sleeps a moment if the pid may become free
    /// without help.
    ///
    /// # Errors
    /// [`Kind::PidTaken`]: it stays taken. The sentence names what holds it.
    pub fn wait(&self) -> Result<()> {
        let holder = PidHolder::of(self.pid);
        if self.since.elapsed() >= holder.limit() {
            return Err(Error::new(Kind::PidTaken, format!("pid {} is taken: {holder}", self.pid)));
        }
        std::thread::sleep(STEP);
        Ok(())
    }
}

/// What holds a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PidHolder {
    /// A process that lives.
    Alive,
    /// A process that has been killed or is in its exit.
    Dying,
    /// A process that has ended and waits for its parent, given here, to reap it.
    Zombie(Pid),
    /// No process: the pid is not freed yet, or it still names a process group or session.
    GroupOrSession,
}

impl PidHolder {
    fn of(pid: Pid) -> PidHolder {
        let stat = Stat::read(&format!("/proc/{pid}/stat"));
        let status = Fields::read(&format!("/proc/{pid}/status"));
        let (Ok(stat), Ok(status)) = (stat, status) else {
            let is_there = Path::new(&format!("/proc/{pid}")).exists();
            return if is_there { PidHolder::Alive } else { PidHolder::GroupOrSession };
        };
        let is_dying = stat.is_exiting() || status.hex("SigPnd") & SIGKILL_BIT != 0;
        if stat.is_zombie_process() {
            PidHolder::Zombie(stat.ppid())
        } else if is_dying {
            PidHolder::Dying
        } else {
            PidHolder::Alive
        }
    }

    /// How long it is worth waiting for.
    fn limit(self) -> Duration {
        match self {
            PidHolder::Alive => Duration::ZERO,
            PidHolder::Dying => DYING_LIMIT,
            PidHolder::Zombie(_) | PidHolder::GroupOrSession => LINGERING_LIMIT,
        }
    }
}

impl fmt::Display for PidHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PidHolder::Alive => f.write_str("a process with this id is alive"),
            PidHolder::Dying => f.write_str("a process with this id is dying"),
            PidHolder::Zombie(parent) => {
                write!(f, "a process with this id has ended, and its parent, pid {parent}, has not asked for that yet")
            }
            PidHolder::GroupOrSession => f.write_str("it is still the process group or session of other processes"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    fn holder(pid: Pid) -> (Duration, String) {
        let holder = PidHolder::of(pid);
        (holder.limit(), holder.to_string())
    }

    #[test]
    fn a_living_process_is_not_waited_for_and_a_zombie_is_named() {
        let (limit, by) = holder(std::process::id() as Pid);
        assert!(limit.is_zero() && by.ends_with("is alive"), "{by}");
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as Pid;
        while Stat::read(&format!("/proc/{pid}/stat")).unwrap().state != 'Z' {
            std::thread::yield_now();
        }
        let (limit, by) = holder(pid);
        assert!(!limit.is_zero() && by.contains(&format!("pid {}", std::process::id())), "{by}");
        child.wait().unwrap();
        let (limit, by) = holder(pid);
        assert!(!limit.is_zero() && by.contains("group or session"), "{by}");
    }
}

//! Who has a number that a restore needs, and whether it will soon be free.
//!
//! Whoever kills a process and restores it at once comes before the end of it: giving back gigabytes takes time, then its parent has to ask
//! for its status, and the kernel takes a process out of /proc before it frees its id (`release_task` in kernel/exit.c).

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// How long one that is dying is waited for.
const DYING: Duration = Duration::from_secs(10);
/// How long a parent is waited for, and a number that nobody has any more.
const LINGERING: Duration = Duration::from_secs(2);

/// The bit of SIGKILL in a set of signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// A number that is wanted.
pub struct WantedPid {
    pid: Pid,
    since: Instant,
}

impl WantedPid {
    /// From now on.
    pub fn new(pid: Pid) -> WantedPid {
        WantedPid { pid, since: Instant::now() }
    }

    /// It is taken: sleeps a moment if that may change by itself.
    ///
    /// # Errors
    /// [`Kind::PidTaken`]: it stays taken, and by whom.
    pub fn wait(&self) -> Result<(), Error> {
        let pid = self.pid;
        let (patience, by) = holder(pid);
        if self.since.elapsed() >= patience {
            return Err(Error::new(Kind::PidTaken, format!("pid {pid} is taken: {by}")));
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

/// Who has it, and how long it is worth waiting for him.
fn holder(pid: Pid) -> (Duration, String) {
    let stat = Stat::read(&format!("/proc/{pid}/stat"));
    let status = Fields::read(&format!("/proc/{pid}/status"));
    let (Ok(stat), Ok(status)) = (stat, status) else {
        if Path::new(&format!("/proc/{pid}")).exists() {
            return (Duration::ZERO, "a process with this id is alive".into());
        }
        return (LINGERING, "it is still the process group or session of other processes".into());
    };
    let is_dying = stat.is_exiting() || status.hex("SigPnd") & KILLED != 0;
    match stat.state {
        'Z' if status.text("Threads") == "1" => {
            let parent = stat.ppid();
            (
                LINGERING,
                format!("a process with this id has ended, and its parent, pid {parent}, has not asked for that yet"),
            )
        }
        _ if is_dying => (DYING, "a process with this id is dying".into()),
        _ => (Duration::ZERO, "a process with this id is alive".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_living_are_not_waited_for_and_zombies_are_told() {
        let (patience, by) = holder(std::process::id() as Pid);
        assert!(patience.is_zero() && by.ends_with("is alive"), "{by}");
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as Pid;
        while Stat::read(&format!("/proc/{pid}/stat")).unwrap().state != 'Z' {
            std::thread::yield_now();
        }
        let (patience, by) = holder(pid);
        assert!(!patience.is_zero() && by.contains(&format!("pid {}", std::process::id())), "{by}");
        child.wait().unwrap();
        let (patience, by) = holder(pid);
        assert!(!patience.is_zero() && by.contains("group or session"), "{by}");
    }
}

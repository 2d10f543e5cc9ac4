//! What holds a pid that a restore needs, and whether the pid will soon be free.
//!
//! A user may kill a process and restore it at once, before the process has fully ended. The
//! process frees gigabytes of memory, then its parent must ask for its status, and the kernel
//! removes a process from /proc before it frees its id (`release_task` in kernel/exit.c).

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::process;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// How long to wait for the end of a dying process, which may have to free much memory.
const DYING_LIMIT: Duration = Duration::from_secs(10);
/// How long a parent may take to reap, and how long an id may name a group or session that has
/// processes. An id that names nothing any more is about to be freed.
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
        let (holder, waited) = (PidHolder::of(self.pid), self.since.elapsed());
        // All processes are looked through for a member only when it takes long.
        let is_being_freed = || holder == PidHolder::GroupOrSession && member(self.pid).is_none();
        if waited >= holder.limit() && !(waited < DYING_LIMIT && is_being_freed()) {
            return Err(taken(&format!("pid {}", self.pid), self.pid));
        }
        std::thread::sleep(STEP);
        Ok(())
    }
}

/// The error about an id that stays taken. `subject` is what needs it.
pub fn taken(subject: &str, pid: Pid) -> Error {
    Error::new(Kind::PidTaken, format!("{subject} is taken: {}", PidHolder::of(pid).described(pid)))
}

/// How to end what is in the way.
const HELP: &str = "kill -9 ends one process, and echo 1 > PID/kill in the mount a whole tree";

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

    /// What holds `pid`, and what to do about it.
    fn described(self, pid: Pid) -> String {
        let named = |pid: Pid| format!("pid {pid} ({})", process::command(pid));
        match self {
            PidHolder::Alive => {
                let status = Fields::read(&format!("/proc/{pid}/status"));
                match status.map_or(pid, |status| status.number("Tgid") as Pid) {
                    group if group == pid => {
                        format!("a process with this id is alive: {}; {HELP}", process::command(pid))
                    }
                    group => format!("a thread of {} has this id; {HELP}", named(group)),
                }
            }
            PidHolder::Dying => format!("a process with this id is dying: {}", process::command(pid)),
            PidHolder::Zombie(parent) => {
                let parent = named(parent);
                format!("a process with this id has ended, and its parent, {parent}, has not asked for that yet")
            }
            PidHolder::GroupOrSession => match member(pid) {
                Some(member) if process::has_ended(member) => {
                    let parent = process::parent(member).map_or("its parent".to_owned(), named);
                    let member = named(member);
                    format!("it is still the process group or session of {member}, which {parent} has to reap")
                }
                Some(member) => format!("it is still the process group or session of {}; {HELP}", named(member)),
                None => "it is still the process group or session of other processes".to_owned(),
            },
        }
    }
}

/// A process of the process group or session `id`, preferably one that lives.
fn member(id: Pid) -> Option<Pid> {
    let is_member = |pid: &Pid| {
        Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| [stat.field(5), stat.field(6)].contains(&(id as u64)))
    };
    let members = proc::numbers("/proc").unwrap_or_default().into_iter().filter(is_member);
    members.min_by_key(|pid| process::has_ended(*pid))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    fn holder(pid: Pid) -> (Duration, String) {
        let holder = PidHolder::of(pid);
        (holder.limit(), holder.described(pid))
    }

    #[test]
    fn a_living_process_is_not_waited_for_and_a_zombie_is_named() {
        let (limit, by) = holder(std::process::id() as Pid);
        let ours = process::command(std::process::id() as Pid);
        assert!(limit.is_zero() && by.starts_with(&format!("a process with this id is alive: {ours}; ")), "{by}");
        let tid = nix::unistd::gettid().as_raw();
        let (_, by) = holder(tid);
        assert!(by.starts_with(&format!("a thread of pid {} ({ours}) has this id", std::process::id())), "{by}");
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id() as Pid;
        while Stat::read(&format!("/proc/{pid}/stat")).unwrap().state != 'Z' {
            std::thread::yield_now();
        }
        let (limit, by) = holder(pid);
        assert!(!limit.is_zero() && by.contains(&format!("pid {}", std::process::id())), "{by}");
        child.wait().unwrap();
        let (limit, by) = holder(pid);
        assert!(!limit.is_zero() && by.contains("group or session of other processes"), "{by}");
    }

    #[test]
    fn a_member_of_a_group_is_named() {
        let mut leader = Command::new("true").process_group(0).spawn().unwrap();
        let group = leader.id() as Pid;
        let mut member = Command::new("sleep").arg("100").process_group(group).spawn().unwrap();
        leader.wait().unwrap();
        while std::fs::read(format!("/proc/{}/cmdline", member.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let (_, by) = holder(group);
        member.kill().unwrap();
        member.wait().unwrap();
        let named = format!("the process group or session of pid {} (sleep 100)", member.id());
        assert!(by.contains(&named) && by.ends_with(HELP), "{by}");
    }
}

//! SIGKILL to a whole tree.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ckptfs_dumper::{Context, Doing, Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::container::Container;
use crate::process::{self, ProcId};

/// Sends SIGKILL to `root` and all its descendants. Returns when they have ended, or after
/// `timeout` (a task in uninterruptible sleep ends when it wakes). `may` decides whether the caller
/// may kill processes. `thaw` detaches the tracers from those that were killed.
///
/// All processes are stopped before the first is killed. The children of a dead process get another
/// parent, so a child that is forked meanwhile would no longer be found below `root`. A task with a
/// pending signal does not fork.
///
/// # Errors
/// The error of `may` for any of them. Then none is killed, and those that were stopped continue.
pub fn kill_tree(
    container: &Container,
    root: ProcId,
    timeout: Duration,
    may: &dyn Fn(&[ProcId]) -> Result<()>,
    thaw: &dyn Fn(&[ProcId]),
) -> Result<()> {
    let mut tree: HashMap<ProcId, OwnedFd> = HashMap::new();
    let mut stopped = StoppedProcesses::default();
    // Zombies are kept in the list too: a stopped parent never reaps them, so each pass finds them
    // again.
    let mut known: HashSet<ProcId> = HashSet::new();
    loop {
        let found = container.tree_of(root).on(|| format!("killing pid {}", root.pid))?;
        let fresh: Vec<ProcId> = found.into_iter().filter(|id| known.insert(*id)).collect();
        if fresh.is_empty() {
            break;
        }
        may(&fresh)?;
        for id in fresh {
            // A process that has gone need not be killed.
            let Some(handle) = pidfd(id) else { continue };
            stopped.stop(&handle, id)?;
            tree.insert(id, handle);
        }
        if !root.is_alive() {
            break;
        }
    }
    if tree.is_empty() {
        return Err(Error::new(Kind::NoProcess, format!("killing pid {}: no such process", root.pid)));
    }
    // All are stopped, so no process can change its user any more.
    may(&tree.keys().copied().collect::<Vec<_>>())?;
    for (id, handle) in &tree {
        signal(handle, *id, Signal::KILL)?;
    }
    stopped.0.clear();
    // A dead tracee stays a zombie until its tracer detaches from it.
    thaw(&tree.keys().copied().collect::<Vec<_>>());
    let deadline = Instant::now() + timeout;
    for handle in tree.values() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        // Readable means ended. A timeout is no error: the signal was sent, as the caller has
        // asked.
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout));
    }
    Ok(())
}

/// Processes that were stopped here. Drop lets them continue.
#[derive(Default)]
struct StoppedProcesses(Vec<(OwnedFd, ProcId)>);

impl StoppedProcesses {
    fn stop(&mut self, handle: &OwnedFd, id: ProcId) -> Result<()> {
        if !process::is_stopped(id.pid) {
            // Before the signal: between the signal and this entry nothing may fail, or the process
            // would stay stopped.
            let doing = || format!("duplicating the pidfd of pid {}", id.pid);
            self.0.push((handle.try_clone().doing(doing)?, id));
        }
        signal(handle, id, Signal::STOP)
    }
}

impl Drop for StoppedProcesses {
    fn drop(&mut self) {
        for (handle, id) in &self.0 {
            // A process that has gone needs no signal.
            let _ = signal(handle, *id, Signal::CONT);
        }
    }
}

/// A pidfd of exactly this process, or `None` if it has ended.
fn pidfd(id: ProcId) -> Option<OwnedFd> {
    let handle = pidfd_open(rustix::process::Pid::from_raw(id.pid)?, PidfdFlags::empty()).ok()?;
    // Checked after the open, so the pidfd does not belong to a later process with the same number.
    id.is_alive().then_some(handle)
}

fn signal(handle: &OwnedFd, id: ProcId, signal: Signal) -> Result<()> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        failed => failed.doing(|| format!("sending {signal:?} to pid {}", id.pid)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::container::MountTarget;
    use crate::testing::Sleeper;

    #[test]
    fn a_tree_is_killed_whole_and_its_parent_notified() {
        let mut victim = Sleeper::with_child();
        let container = Container::new(MountTarget::tree(victim.pid()).unwrap(), Box::new(|_| false));
        let tree = container.members().unwrap();
        assert_eq!(tree.len(), 2);
        let root = container.find(victim.pid()).unwrap();
        kill_tree(&container, root, Duration::from_secs(60), &|_| Ok(()), &|_| {}).unwrap();
        assert!(tree.iter().all(|id| !id.is_alive()), "{tree:?}");
        assert_eq!(victim.wait_signal(), Some(9));
        let error = kill_tree(&container, root, Duration::from_secs(60), &|_| Ok(()), &|_| {}).unwrap_err();
        assert_eq!(error.kind(), Kind::NoProcess);
    }

    #[test]
    fn none_is_killed_or_left_stopped_where_one_may_not_be_killed() {
        let victim = Sleeper::with_child();
        let container = Container::new(MountTarget::tree(victim.pid()).unwrap(), Box::new(|_| false));
        let tree = container.members().unwrap();
        let root = container.find(victim.pid()).unwrap();
        let may = |ids: &[ProcId]| if *ids == [root] { Ok(()) } else { Err(Error::os("not permitted", libc::EACCES)) };
        let error = kill_tree(&container, root, Duration::from_secs(60), &may, &|_| {}).unwrap_err();
        assert_eq!(error.kind(), Kind::System(libc::EACCES));
        assert!(tree.iter().all(|id| id.is_alive()), "{tree:?}");
        while process::is_stopped(victim.pid()) {
            std::thread::yield_now();
        }
    }

    /// Zombies that their parent does not reap are part of its tree, and must not make the search
    /// endless.
    #[test]
    fn a_tree_with_a_zombie_is_killed() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "true & exec sleep 1000"]);
        let mut shell = shell.spawn().unwrap();
        let pid = shell.id().cast_signed();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let is_sleep = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sleep";
        let child_ended = || {
            let child = std::fs::read_to_string(&children).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.contains(") Z ")
        };
        while !is_sleep() || !child_ended() {
            std::thread::yield_now();
        }
        let container = Container::new(MountTarget::tree(pid).unwrap(), Box::new(|_| false));
        let root = container.find(pid).unwrap();
        kill_tree(&container, root, Duration::from_secs(60), &|_| Ok(()), &|_| {}).unwrap();
        assert!(!shell.wait().unwrap().success());
    }
}

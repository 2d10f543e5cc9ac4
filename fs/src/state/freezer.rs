//! `freeze` and `kill`: what cgroup v2 offers for groups, for the tree of a process.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ckptfs_dumper::{Context, Doing, Error, Kind, Pid, Result};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::container::Container;
use crate::process::{self, ProcId};
use crate::state::tracers::{Lease, Tracers};

/// The trees that are held stopped.
pub struct Freezer {
    tracers: Arc<Tracers>,
    /// A leaf lock: trees are stopped and let go outside of it.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// And since when.
    held: HashMap<ProcId, (Lease, Instant)>,
    /// Trees that are being stopped or let go: the next write to their `freeze` waits.
    busy: HashSet<ProcId>,
}

impl Freezer {
    /// Holds nothing.
    pub fn new(tracers: Arc<Tracers>) -> Freezer {
        Freezer { tracers, state: Mutex::default(), changed: Condvar::new() }
    }

    /// What `freeze` reads as.
    pub fn text(&self, id: ProcId) -> &'static str {
        if self.state.lock().held.contains_key(&id) { "1\n" } else { "0\n" }
    }

    /// The pids whose trees are held, ascending.
    pub fn held(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.state.lock().held.keys().map(|id| id.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// The pids whose trees are held, and since when.
    pub fn held_since(&self) -> Vec<(ProcId, Instant)> {
        self.state.lock().held.iter().map(|(id, (_, since))| (*id, *since)).collect()
    }

    /// Stops the tree and keeps it stopped, or lets it go on, as the process `asker` wants. Blocks until that is so.
    pub fn set(&self, id: ProcId, frozen: bool, asker: Option<Pid>) -> Result<()> {
        let turn = self.turn(id);
        let held = self.state.lock().held.remove(&id);
        let (result, keep) = match (frozen, held) {
            (true, Some(held)) => (Ok(()), Some(held)),
            (true, None) => {
                let lease = self.tracers.lease(id).on(|| format!("pid {}", id.pid))?;
                match lease.freeze(asker) {
                    Ok(()) => (Ok(()), Some((lease, Instant::now()))),
                    Err(error) => (Err(error), None),
                }
            }
            (false, None) => (Ok(()), None),
            (false, Some((lease, since))) => match lease.thaw() {
                Ok(()) => (Ok(()), None),
                // It still is stopped: so it still is held.
                Err(error) => (Err(error), Some((lease, since))),
            },
        };
        if let Some(held) = keep {
            self.state.lock().held.insert(id, held);
        }
        drop(turn);
        result
    }

    /// Lets go of what is dead.
    pub fn forget_dead(&self) {
        let held: Vec<ProcId> = self.state.lock().held.keys().copied().collect();
        self.forget(held.into_iter().filter(|id| !id.is_alive()));
    }

    /// Lets go of everybody.
    pub fn let_go(&self) {
        let held: Vec<ProcId> = self.state.lock().held.keys().copied().collect();
        self.forget(held.into_iter());
    }

    fn forget(&self, ids: impl Iterator<Item = ProcId>) {
        for id in ids {
            let lease = self.state.lock().held.remove(&id);
            // A snapshot may keep the tracer longer; the dead need its thaw to be reaped by their parent.
            if let Some(Err(error)) = lease.map(|(lease, _)| lease.thaw()) {
                log::debug!("letting go of pid {}: {error}", id.pid);
            }
        }
    }

    fn turn(&self, id: ProcId) -> Turn<'_> {
        let mut state = self.state.lock();
        while !state.busy.insert(id) {
            self.changed.wait(&mut state);
        }
        Turn { freezer: self, id }
    }
}

/// The right to stop or let go one tree.
struct Turn<'a> {
    freezer: &'a Freezer,
    id: ProcId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.freezer.state.lock().busy.remove(&self.id);
        self.freezer.changed.notify_all();
    }
}

/// The `0` or `1` that was written to a control file, whatever white space stands around it.
pub fn switch(bytes: &[u8]) -> Option<bool> {
    match bytes.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// SIGKILL to `root` and all its descendants. Returns when they have ended, or after `patience` (a task that sleeps
/// uninterruptibly ends when it wakes).
///
/// Everybody is stopped before anybody is killed: the children of a dead process belong to somebody else, so that one
/// forked in the middle would be lost from sight. A task with a signal waiting does not fork any more.
///
/// # Errors
/// What `may` says of any of them; then nobody is killed, and those that were stopped go on.
pub fn kill_tree(
    container: &Container,
    freezer: &Freezer,
    root: ProcId,
    patience: Duration,
    may: &dyn Fn(ProcId) -> Result<()>,
) -> Result<()> {
    let mut tree: HashMap<ProcId, OwnedFd> = HashMap::new();
    let mut stopped = Stopped::default();
    // Also those that have ended and wait for their parent, who may be stopped and never ask: they are found again and again.
    let mut seen: HashSet<ProcId> = HashSet::new();
    loop {
        let found = container.tree_of(root).on(|| format!("killing pid {}", root.pid))?;
        let fresh: Vec<ProcId> = found.into_iter().filter(|id| seen.insert(*id)).collect();
        if fresh.is_empty() {
            break;
        }
        for id in fresh {
            // Who is gone by now need not be killed.
            let Some(handle) = pidfd(id) else { continue };
            may(id)?;
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
    // Nobody becomes anybody else any more.
    tree.keys().try_for_each(|id| may(*id))?;
    for (id, handle) in &tree {
        signal(handle, *id, Signal::KILL)?;
    }
    stopped.0.clear();
    // A dead tracee is a zombie until its tracer lets go.
    freezer.forget(tree.keys().copied());
    let deadline = Instant::now() + patience;
    for handle in tree.values() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        // Readable means ended. Whether it is in time or not, the signal is sent, which is all that was asked.
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout));
    }
    Ok(())
}

/// Those that were stopped here. On Drop they go on.
#[derive(Default)]
struct Stopped(Vec<(OwnedFd, ProcId)>);

impl Stopped {
    fn stop(&mut self, handle: &OwnedFd, id: ProcId) -> Result<()> {
        if !process::is_stopped(id.pid) {
            // Before the signal: nothing may fail between that and being known as one that is to go on.
            let doing = || format!("duplicating the pidfd of pid {}", id.pid);
            self.0.push((handle.try_clone().doing(doing)?, id));
        }
        signal(handle, id, Signal::STOP)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for (handle, id) in &self.0 {
            // Who is gone need not go on.
            let _ = signal(handle, *id, Signal::CONT);
        }
    }
}

/// A handle on this very process; `None` if it is gone.
fn pidfd(id: ProcId) -> Option<OwnedFd> {
    let handle = pidfd_open(rustix::process::Pid::from_raw(id.pid)?, PidfdFlags::empty()).ok()?;
    // Asked after the open: the handle cannot have been given to a later owner of the number.
    id.is_alive().then_some(handle)
}

fn signal(handle: &OwnedFd, id: ProcId, signal: Signal) -> Result<()> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::os(format!("sending {signal:?} to pid {}", id.pid), errno.raw_os_error())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::container::Target;
    use crate::testing::{Sleeper, options};

    #[test]
    fn switches_tolerate_white_space_and_nothing_else() {
        for (text, wanted) in
            [("1", Some(true)), ("0\n", Some(false)), (" 1 \n", Some(true)), ("", None), ("2", None), ("10", None)]
        {
            assert_eq!(switch(text.as_bytes()), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_tree_is_killed_whole_and_its_parent_told() {
        let mut victim = Sleeper::with_child();
        let container = Container::new(Target::tree(victim.pid()).unwrap(), Box::new(|_| false));
        let freezer = Freezer::new(Tracers::new(options()));
        let tree = container.members().unwrap();
        assert_eq!(tree.len(), 2);
        let root = container.find(victim.pid()).unwrap();
        kill_tree(&container, &freezer, root, Duration::from_secs(60), &|_| Ok(())).unwrap();
        assert!(tree.iter().all(|id| !id.is_alive()), "{tree:?}");
        assert_eq!(victim.wait_signal(), Some(9));
        let error = kill_tree(&container, &freezer, root, Duration::from_secs(60), &|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), Kind::NoProcess);
    }

    #[test]
    fn nobody_is_killed_and_nobody_left_stopped_where_one_may_not_be() {
        let victim = Sleeper::with_child();
        let container = Container::new(Target::tree(victim.pid()).unwrap(), Box::new(|_| false));
        let freezer = Freezer::new(Tracers::new(options()));
        let tree = container.members().unwrap();
        let root = container.find(victim.pid()).unwrap();
        let may = |id: ProcId| if id == root { Ok(()) } else { Err(Error::os("not his", libc::EACCES)) };
        let error = kill_tree(&container, &freezer, root, Duration::from_secs(60), &may).unwrap_err();
        assert_eq!(error.kind(), Kind::System(libc::EACCES));
        assert!(tree.iter().all(|id| id.is_alive()), "{tree:?}");
        while process::is_stopped(victim.pid()) {
            std::thread::yield_now();
        }
    }

    /// Zombies of a parent that does not ask are part of its tree, and no reason to look for ever.
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
        let container = Container::new(Target::tree(pid).unwrap(), Box::new(|_| false));
        let root = container.find(pid).unwrap();
        let freezer = Freezer::new(Tracers::new(options()));
        kill_tree(&container, &freezer, root, Duration::from_secs(60), &|_| Ok(())).unwrap();
        assert!(!shell.wait().unwrap().success());
    }

    #[test]
    fn nothing_is_frozen_to_begin_with_and_thawing_it_is_fine() {
        let victim = Sleeper::new();
        let id = crate::process::Process::read(victim.pid()).unwrap().id;
        let freezer = Freezer::new(Tracers::new(options()));
        freezer.set(id, false, None).unwrap();
        assert_eq!(freezer.text(id), "0\n");
        assert!(freezer.held().is_empty());
    }
}

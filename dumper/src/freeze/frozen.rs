//! A stopped tree.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::FreezeTurn;
use crate::sys::pid::Pid;
use crate::sys::proc::process::parent;
use crate::sys::proc::stat::Stat;
use crate::sys::ptrace::Stopped;
use crate::sys::wait;

/// A stopped process.
#[derive(Debug)]
pub struct FrozenProcess {
    /// Its id.
    pub pid: Pid,
    /// Every thread, the leader first.
    pub threads: Vec<Stopped>,
    /// The leader has ended (pthread_exit(3) in main) while other threads live.
    pub leader_is_zombie: bool,
    /// The whole process has ended and waits to be reaped.
    pub is_zombie: bool,
    /// The signal by which job control had stopped it before the freeze.
    pub group_stop: Option<i32>,
}

/// All threads of a stopped tree. Dropping it resumes them.
#[derive(Debug)]
pub struct Frozen {
    /// A living root first, and parents before children.
    pub processes: Vec<FrozenProcess>,
    /// When the first task was asked to stop.
    pub since: Instant,
    /// The limit of the stop.
    pub bound: StopBound,
    /// Until this is dropped, no other session freezes the cgroup of these processes. It is dropped
    /// last.
    pub turn: Option<FreezeTurn>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let mut leaders = process.threads.iter().map(Stopped::tid).filter(|tid| *tid == process.pid);
            let leader = leaders.next();
            process.threads.clear();
            // A killed leader cannot be waited for before the last of its threads.
            if let Some(leader) = leader {
                let _ = wait::poll(leader);
            }
        }
    }
}

impl Frozen {
    /// A tree without processes.
    pub(super) fn empty(bound: StopBound) -> Self {
        Self { processes: Vec::new(), since: Instant::now(), bound, turn: None }
    }

    /// The processes that have a task.
    pub fn alive(&self) -> impl Iterator<Item = &FrozenProcess> {
        self.processes.iter().filter(|process| !process.is_zombie)
    }

    /// [`Frozen::alive`], to enter them.
    pub fn alive_mut(&mut self) -> impl Iterator<Item = &mut FrozenProcess> {
        self.processes.iter_mut().filter(|process| !process.is_zombie)
    }

    /// How many threads are held.
    pub fn threads(&self) -> usize {
        self.processes.iter().map(|process| process.threads.len()).sum()
    }

    /// Waits for tasks that were killed while they are stopped. Their parent cannot wait for them
    /// before their tracer has. Returns whether the first root is among them.
    pub fn reap_killed(&mut self) -> bool {
        for process in &mut self.processes {
            let threads = std::mem::take(&mut process.threads);
            process.threads = threads.into_iter().filter_map(Stopped::alive).collect();
        }
        self.processes.first().is_none_or(|root| root.threads.is_empty())
    }

    /// Leaves out processes that ended before they could be stopped and are not part of the tree:
    /// those that were reaped since, and roots, which their parents outside the tree will reap. A
    /// living root comes first.
    pub(super) fn begin_with_a_root(&mut self) {
        self.processes
            .retain(|process| !process.is_zombie || Stat::read(&format!("/proc/{}/stat", process.pid)).is_ok());
        let pids: BTreeSet<Pid> = self.processes.iter().map(|process| process.pid).collect();
        let is_root = |process: &FrozenProcess| !parent(process.pid).is_some_and(|parent| pids.contains(&parent));
        self.processes.retain(|process| !process.is_zombie || !is_root(process));
        if let Some(at) = self.processes.iter().position(is_root) {
            let root = self.processes.remove(at);
            self.processes.insert(0, root);
        }
    }
}

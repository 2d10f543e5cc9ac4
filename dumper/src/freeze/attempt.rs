//! One attempt to stop every task of a target.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::CgroupFrozen;
use crate::freeze::frozen::{Frozen, FrozenProcess};
use crate::freeze::target::Target;
use crate::freeze::tracing;
use crate::freeze::vfork::{sleeps_uninterruptibly, vfork_child};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::process::runs_this_program;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{self, Running, Stop, Stopped, Waited};

/// A task that has not stopped after this long is examined more closely. Most stop within some 30
/// us.
const STOPS_WITHIN: Duration = Duration::from_millis(1);

/// In how many passes a tree may have grown before its cgroup is frozen.
const GROWING_MOST: u32 = 3;

/// What is stopped so far. Dropping it resumes the tasks.
pub struct Attempt<'a> {
    target: &'a Target,
    bound: &'a StopBound,
    frozen: Frozen,
    /// Where the processes are in `frozen`.
    places: BTreeMap<Pid, usize>,
    /// Every task that was found.
    seen: BTreeSet<Pid>,
    /// A task that did not stop before and is stopped already.
    returned: Option<Stopped>,
    /// The cgroup of the tasks, while it is frozen.
    cgroup: Option<CgroupFrozen<'a>>,
    /// Tasks of one process that were asked to stop and have not been waited for yet. They are
    /// released last: no stopped task waits for one that does not stop.
    asked: Asked,
    /// How the attempt ends if the tree grows all the time.
    growing: Growing,
    /// How long it waits for a task that sleeps uninterruptibly.
    patience: Duration,
}

/// Tasks that were asked to stop. Drop releases them together.
#[derive(Default)]
struct Asked(Vec<Running>);

impl Drop for Asked {
    fn drop(&mut self) {
        ptrace::release_all(std::mem::take(&mut self.0));
    }
}

/// What is done about a tree that grows while it is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growing {
    /// More passes are made until the time is up.
    GoesOn,
    /// The attempt ends, because the cgroup can be frozen first.
    Ends,
}

/// How an attempt ended.
pub enum Outcome {
    /// Every task is stopped.
    Stopped,
    /// Another session of this program holds a task.
    Contended(Error),
    /// This task waits in vfork(2), or sleeps uninterruptibly for longer than a moment.
    Waits(Running),
    /// The tree has grown in each of several passes.
    Grows,
}

/// What one pass over all tasks found.
enum Pass {
    /// No task is new.
    Whole,
    /// There were new tasks. They are stopped now.
    Grown,
    /// The attempt is over.
    Failed(Outcome),
}

/// Why a task could not be seized.
enum Refusal {
    /// It has ended.
    Gone,
    /// It has ended and is not reaped yet.
    Zombie,
    /// This very thread has seized it before, and could not release it because it waited in
    /// vfork(2).
    Ours(Running),
    /// Another session of this program holds it, or the reason is gone by now.
    Contended(Error),
}

/// The outcome for a task that was asked to stop.
enum Settled {
    Stopped(Stopped),
    Waits(Running),
    Gone,
}

/// The outcome for the tasks of one process.
enum Seized {
    /// They were asked to stop. The flag is set if the leader is a zombie.
    Asked(bool),
    Contended(Error),
}

impl<'a> Attempt<'a> {
    /// An attempt that has stopped nothing yet, apart from `returned`. `cgroup` is thawed at its
    /// end, or earlier.
    pub fn new(
        target: &'a Target,
        bound: &'a StopBound,
        returned: Option<Stopped>,
        cgroup: Option<CgroupFrozen<'a>>,
        growing: Growing,
        patience: Duration,
    ) -> Self {
        let (frozen, places, seen) = (Frozen::empty(bound.clone()), BTreeMap::new(), BTreeSet::new());
        Self { target, bound, frozen, places, seen, returned, cgroup, asked: Asked::default(), growing, patience }
    }

    /// The tasks that were stopped.
    pub fn into_frozen(self) -> Frozen {
        self.frozen
    }

    /// Stops new tasks until a pass finds none.
    pub fn stop_all(&mut self) -> Result<Outcome> {
        let mut grown = 0;
        loop {
            match self.pass()? {
                Pass::Whole => return Ok(Outcome::Stopped),
                Pass::Failed(outcome) => return Ok(outcome),
                Pass::Grown if self.bound.deadline().is_over() => {
                    let (target, tasks) = (self.target, self.seen.len());
                    let busy = format!("{target}: it grows faster than it can be stopped ({tasks} tasks so far)");
                    return Err(Error::new(Kind::Busy, busy));
                }
                Pass::Grown if self.growing == Growing::Ends && grown == GROWING_MOST => return Ok(Outcome::Grows),
                Pass::Grown => grown += 1,
            }
        }
    }

    /// One pass over all processes: seizes tasks that are new, then waits for them.
    ///
    /// The tasks of one process are waited for before the next process is seized. A parent in
    /// vfork(2) stops only behind its child, which must not have been asked to stop by then: if it
    /// could not be released in time, both would stand still until the limit of the stop.
    fn pass(&mut self) -> Result<Pass> {
        let mut grown = false;
        for pid in self.target.members()? {
            let Ok(tids) = proc::numbers(&format!("/proc/{pid}/task")) else { continue };
            let new: Vec<Pid> = tids.into_iter().filter(|tid| self.seen.insert(*tid)).collect();
            if !new.is_empty() && !grown && self.frozen.processes.is_empty() {
                self.frozen.since = Instant::now();
            }
            grown |= !new.is_empty();
            let leader_is_zombie = match self.seize(pid, &new)? {
                Seized::Asked(leader_is_zombie) => leader_is_zombie,
                Seized::Contended(error) => return Ok(Pass::Failed(Outcome::Contended(error))),
            };
            self.process(pid).leader_is_zombie |= leader_is_zombie;
            let patience = Deadline::after(self.patience);
            // In the order in which they were asked.
            self.asked.0.reverse();
            while let Some(running) = self.asked.0.pop() {
                let tid = running.tid();
                let settled = settle(running, self.bound, patience, &mut self.cgroup)?;
                let _thawed = self.cgroup.take_if(|frozen| frozen.is_over());
                let process = self.process(pid);
                match settled {
                    Settled::Stopped(stopped) => {
                        if let Stop::Group(signal) = stopped.stop() {
                            process.group_stop = Some(signal);
                        }
                        process.threads.push(stopped);
                    }
                    Settled::Waits(waiting) => return Ok(Pass::Failed(Outcome::Waits(waiting))),
                    Settled::Gone => process.leader_is_zombie |= tid == pid,
                }
            }
            let process = self.process(pid);
            process.is_zombie = process.threads.is_empty();
        }
        Ok(if grown { Pass::Grown } else { Pass::Whole })
    }

    /// Asks tasks of one process to stop.
    fn seize(&mut self, pid: Pid, tids: &[Pid]) -> Result<Seized> {
        let mut leader_is_zombie = false;
        for &tid in tids {
            let seized = match self.returned.take_if(|returned| returned.tid() == tid) {
                Some(returned) => resume_to_stop(returned),
                None => ptrace::seize(tid, ptrace::options::SYSGOOD),
            };
            match seized {
                Ok(running) => self.asked.0.push(running),
                Err(error) => match why_not(pid, tid, error)? {
                    Refusal::Gone => {}
                    Refusal::Ours(running) => self.asked.0.push(running),
                    Refusal::Zombie => leader_is_zombie |= tid == pid,
                    Refusal::Contended(error) => return Ok(Seized::Contended(error)),
                },
            }
        }
        Ok(Seized::Asked(leader_is_zombie))
    }

    /// The process with this id; a new one has no thread yet.
    fn process(&mut self, pid: Pid) -> &mut FrozenProcess {
        let processes = &mut self.frozen.processes;
        let at = *self.places.entry(pid).or_insert_with(|| {
            let (threads, group_stop) = (Vec::new(), None);
            processes.push(FrozenProcess { pid, threads, leader_is_zombie: false, is_zombie: false, group_stop });
            processes.len() - 1
        });
        &mut processes[at]
    }
}

/// Why a task could not be seized.
///
/// # Errors
/// [`Kind::Busy`] if a process of another program traces it.
fn why_not(pid: Pid, tid: Pid, error: Error) -> Result<Refusal> {
    let Ok(stat) = Stat::read(&format!("/proc/{pid}/task/{tid}/stat")) else { return Ok(Refusal::Gone) };
    if stat.is_ended_task() {
        return Ok(Refusal::Zombie);
    }
    if error.kind() == Kind::NoProcess {
        return Ok(Refusal::Gone);
    }
    let tracer_now =
        || Fields::read(&format!("/proc/{pid}/task/{tid}/status")).map(|status| status.number("TracerPid"));
    let tracer = tracer_now()?;
    if tracer == nix::unistd::gettid().as_raw() as u64 {
        let running = Running::adopt(tid);
        running.interrupt()?;
        return Ok(Refusal::Ours(running));
    }
    if tracer != 0 {
        let error = tracing::refusal(pid, tracer);
        // A tracer that has ended meanwhile shows no program.
        let is_released = |now: Result<u64>| now.map_or(true, |now| now != tracer);
        let is_contended = runs_this_program(tracer) || is_released(tracer_now());
        return if is_contended { Ok(Refusal::Contended(error)) } else { Err(error) };
    }
    Ok(Refusal::Contended(error.on(format_args!("pid {pid}"))))
}

/// Waits for the requested stop. If a signal was about to be delivered, it is handed back: its
/// handler's first instruction (or the death that it causes) is part of the checkpoint. `cgroup` is
/// thawed if it lasts too long.
fn settle(
    mut running: Running,
    bound: &StopBound,
    patience: Deadline,
    cgroup: &mut Option<CgroupFrozen<'_>>,
) -> Result<Settled> {
    let deadline = bound.deadline();
    loop {
        match running.wait(deadline.at_most(STOPS_WITHIN))? {
            Waited::Stopped(stopped) => match stopped.stop() {
                Stop::Interrupted | Stop::Group(_) => {
                    stopped.restart_interrupted_call();
                    return Ok(Settled::Stopped(stopped));
                }
                Stop::Signal(signal) => running = stopped.cont(signal)?,
                Stop::Syscall | Stop::Event(_) => running = stopped.cont(0)?,
            },
            Waited::Ended => return Ok(Settled::Gone),
            Waited::Running(waiting) if vfork_child(waiting.tid()).is_some() => return Ok(Settled::Waits(waiting)),
            Waited::Running(asleep) if patience.is_over() && sleeps_uninterruptibly(asleep.tid()) => {
                return Ok(Settled::Waits(asleep));
            }
            Waited::Running(slow) if !deadline.is_over() => {
                bound.check_reader()?;
                let _thawed = cgroup.take_if(|frozen| frozen.is_over());
                running = slow;
            }
            Waited::Running(slow) => return Err(slow.does_not_stop()),
        }
    }
}

/// Resumes a stopped task up to its next stop, which is the requested one. It executes no
/// instruction of its own.
fn resume_to_stop(stopped: Stopped) -> Result<Running> {
    stopped.interrupt()?;
    let signal = if let Stop::Signal(signal) = stopped.stop() { signal } else { 0 };
    stopped.cont(signal)
}

//! Stops a whole tree, or all trees of a cgroup, until nobody is added; [`Frozen`] thaws on Drop.
//!
//! Threads and children can be made until everybody is stopped, so all are looked for again and again until a whole pass
//! finds nobody new. Where the container is a cgroup it is frozen first: nobody forks meanwhile. The cgroup is thawed
//! before this returns, because a task frozen by its cgroup cannot make a system call on our behalf; ptrace holds them by then.

pub mod cgroup;
pub mod entry;
pub mod snapshot_child;
pub mod target;
pub mod vfork;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::freeze::cgroup::{CgroupFreezer, FreezeTurn};
use crate::freeze::target::Target;
use crate::freeze::vfork::{behind_vfork, vfork_child};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc::process::{parent, runs_this_program};
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{self, Running, Stop, Stopped, Waited};
use crate::sys::{proc, wait};

/// A stopped process.
#[derive(Debug)]
pub struct FrozenProcess {
    /// Its id.
    pub pid: Pid,
    /// Every thread, the leader first.
    pub threads: Vec<Stopped>,
    /// The leader has ended (pthread_exit in main) while other threads live.
    pub leader_is_zombie: bool,
    /// The whole process has ended and waits to be reaped.
    pub is_zombie: bool,
    /// Stopped by job control before we came, with this signal.
    pub group_stop: Option<i32>,
}

/// Everybody who was to be stopped. Dropping it lets them go on.
#[derive(Debug)]
pub struct Frozen {
    /// A root that lives first, parents before children.
    pub processes: Vec<FrozenProcess>,
    /// When the first task was asked to stop.
    pub since: Instant,
    /// Who shares a cgroup is not frozen with it by somebody else, until this is given up. Dropped last.
    pub turn: Option<FreezeTurn>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let mut leaders = process.threads.iter().map(Stopped::tid).filter(|tid| *tid == process.pid);
            let leader = leaders.next();
            process.threads.clear();
            // Killed with all its threads, it could not be asked for before the last of them was.
            if let Some(leader) = leader {
                let _ = wait::poll(leader);
            }
        }
    }
}

impl Frozen {
    /// How many threads are held.
    pub fn threads(&self) -> usize {
        self.processes.iter().map(|process| process.threads.len()).sum()
    }

    /// Waits for tasks that were killed although they are stopped: until their tracer has, their parent cannot. Whether
    /// the first root is among them.
    pub fn bury_the_dead(&mut self) -> bool {
        for process in &mut self.processes {
            let threads = std::mem::take(&mut process.threads);
            process.threads = threads.into_iter().filter_map(Stopped::alive).collect();
        }
        self.processes.first().is_none_or(|root| root.threads.is_empty())
    }

    /// Roots that have ended meanwhile are their parents', which are not here: they are left out. One that lives comes first.
    fn begin_with_a_root(&mut self) {
        let pids: BTreeSet<Pid> = self.processes.iter().map(|process| process.pid).collect();
        let is_root = |process: &FrozenProcess| !parent(process.pid).is_some_and(|parent| pids.contains(&parent));
        self.processes.retain(|process| !process.is_zombie || !is_root(process));
        if let Some(at) = self.processes.iter().position(is_root) {
            let root = self.processes.remove(at);
            self.processes.insert(0, root);
        }
    }
}

/// Freezes all of `target` within `timeout`.
///
/// # Errors
/// [`Kind::Busy`] if it does not stop in time, somebody else traces it or its cgroup is frozen already, [`Kind::Unsupported`] if somebody
/// waits in vfork(2) all that time, [`Kind::NoProcess`] if it is gone. Everybody who was stopped goes on.
pub fn freeze(target: &Target, timeout: Duration, freezer: Option<&CgroupFreezer>) -> Result<Frozen> {
    let deadline = Deadline::after(timeout);
    let turn = freezer.map(|freezer| freezer.turn(deadline)).transpose()?;
    cgroup::refuse_frozen(&target.members()?)?;
    let stand_still = || freezer.map(|freezer| freezer.stand_still(deadline)).transpose();
    let mut still = stand_still()?;
    let mut frozen = Frozen { processes: Vec::new(), since: Instant::now(), turn: None };
    let mut seen = BTreeSet::new();
    let mut held = None;
    let mut unexplained = 0;
    loop {
        match pass(target, &mut frozen, &mut seen, &mut held, deadline)? {
            Pass::Whole => break,
            Pass::Grown => {}
            // Another session of this program, perhaps of another mount, is about to let go: everybody goes on meanwhile.
            Pass::Contended(error) => {
                // Not allowed, although nobody traces it: either it was let go in between, or that will not change.
                unexplained += u32::from(error.kind() != Kind::Busy);
                if deadline.is_over() || unexplained > UNEXPLAINED_MOST {
                    return Err(error);
                }
                drop(still);
                frozen = Frozen { processes: Vec::new(), since: Instant::now(), turn: None };
                seen.clear();
                drop(held.take());
                std::thread::sleep(Duration::from_millis(1));
                still = stand_still()?;
                continue;
            }
            Pass::Vfork(waiting) => {
                frozen = Frozen { processes: Vec::new(), since: Instant::now(), turn: None };
                seen.clear();
                drop((held.take(), still.take()));
                held = behind_vfork(waiting, deadline)?;
                still = stand_still()?;
                continue;
            }
        }
        if deadline.is_over() {
            return Err(Error::new(
                Kind::Busy,
                format!("{target}: it grows faster than it can be stopped ({} tasks so far)", seen.len()),
            ));
        }
    }
    drop(still);
    frozen.turn = turn;
    // Who ended before it could be stopped, and was reaped since, is nobody's any more.
    frozen.processes.retain(|process| !process.is_zombie || Stat::read(&format!("/proc/{}/stat", process.pid)).is_ok());
    frozen.begin_with_a_root();
    let pids = frozen.processes.iter().map(|process| process.pid).collect();
    target.refuse_lost_children(&pids)?;
    match frozen.processes.first() {
        Some(first) if target.root().is_none_or(|root| root == first.pid) && !first.is_zombie => Ok(frozen),
        _ => Err(Error::new(Kind::NoProcess, format!("{target}: no such process"))),
    }
}

/// Times that a refusal to trace may turn out to have had no reason any more.
const UNEXPLAINED_MOST: u32 = 100;

/// One walk over everybody: seizes whoever is new, then waits for all of them. Whether there was anybody new. `held` is one
/// who is stopped already.
fn pass(
    target: &Target,
    frozen: &mut Frozen,
    seen: &mut BTreeSet<Pid>,
    held: &mut Option<Stopped>,
    deadline: Deadline,
) -> Result<Pass> {
    let mut grown = false;
    for pid in target.members()? {
        let mut asked: Vec<Running> = Vec::new();
        let mut zombie_leader = false;
        let Ok(tids) = proc::numbers(&format!("/proc/{pid}/task")) else { continue };
        for tid in tids {
            if !seen.insert(tid) {
                continue;
            }
            if !grown && frozen.processes.is_empty() {
                frozen.since = Instant::now();
            }
            grown = true;
            let seized = match held.take_if(|held| held.tid() == tid) {
                Some(held) => resume_to_stop(held),
                None => ptrace::seize(tid, ptrace::options::SYSGOOD),
            };
            match seized {
                Ok(running) => asked.push(running),
                Err(error) => match why_not(pid, tid, error)? {
                    Refusal::Gone => {}
                    Refusal::Ours(running) => asked.push(running),
                    Refusal::Zombie => zombie_leader |= tid == pid,
                    Refusal::Contended(error) => return Ok(Pass::Contended(error)),
                },
            }
        }
        let at = frozen.processes.iter().position(|process| process.pid == pid).unwrap_or_else(|| {
            frozen.processes.push(FrozenProcess {
                pid,
                threads: Vec::new(),
                leader_is_zombie: false,
                is_zombie: false,
                group_stop: None,
            });
            frozen.processes.len() - 1
        });
        let process = &mut frozen.processes[at];
        process.leader_is_zombie |= zombie_leader;
        for running in asked {
            match settle(running, deadline)? {
                Settled::Stopped(stopped) => {
                    if let Stop::Group(signal) = stopped.stop() {
                        process.group_stop = Some(signal);
                    }
                    process.threads.push(stopped);
                }
                Settled::Vfork(waiting) => return Ok(Pass::Vfork(waiting)),
                Settled::Gone => {}
            }
        }
        process.is_zombie = process.threads.is_empty();
    }
    Ok(if grown { Pass::Grown } else { Pass::Whole })
}

/// What one walk found.
enum Pass {
    /// Nobody new.
    Whole,
    /// Somebody new, stopped now.
    Grown,
    /// Somebody whom another session of this program holds.
    Contended(Error),
    /// Somebody who waits in vfork(2).
    Vfork(Running),
}

enum Refusal {
    Gone,
    Zombie,
    /// This very thread has seized it before, and could not let it go because it waited in vfork(2).
    Ours(Running),
    Contended(Error),
}

/// Why a task could not be seized; an error unless it has ended.
fn why_not(pid: Pid, tid: Pid, error: Error) -> Result<Refusal> {
    let Ok(stat) = Stat::read(&format!("/proc/{pid}/task/{tid}/stat")) else { return Ok(Refusal::Gone) };
    if matches!(stat.state, 'Z' | 'X') {
        return Ok(Refusal::Zombie);
    }
    if error.kind() == Kind::NoProcess {
        return Ok(Refusal::Gone);
    }
    let tracer = Fields::read(&format!("/proc/{pid}/task/{tid}/status"))?.number("TracerPid");
    if tracer == nix::unistd::gettid().as_raw() as u64 {
        let running = Running::adopt(tid);
        running.interrupt()?;
        return Ok(Refusal::Ours(running));
    }
    if tracer != 0 {
        let name = proc::read_text(&format!("/proc/{tracer}/comm"));
        let has_ended = name.is_err();
        let name = name.unwrap_or_default();
        let traced = format!("pid {pid}: it is traced already, by pid {tracer} ({})", name.trim_end());
        let error = Error::new(Kind::Busy, traced);
        return if has_ended || runs_this_program(tracer) { Ok(Refusal::Contended(error)) } else { Err(error) };
    }
    Ok(Refusal::Contended(error.on(format_args!("pid {pid}"))))
}

/// What became of a task that was asked to stop.
enum Settled {
    Stopped(Stopped),
    Vfork(Running),
    Gone,
}

/// A task that has not stopped after this long is looked at more closely: most stop within some 30 us.
const PATIENCE: Duration = Duration::from_millis(1);

/// Waits for the stop that we asked for. A signal that was on its way in is handed back: its handler's first instruction
/// (or its death) is part of the instant.
fn settle(mut running: Running, deadline: Deadline) -> Result<Settled> {
    loop {
        match running.wait(deadline.at_most(PATIENCE))? {
            Waited::Stopped(stopped) => match stopped.stop() {
                Stop::Interrupted | Stop::Group(_) => {
                    stopped.restart_interrupted_call();
                    return Ok(Settled::Stopped(stopped));
                }
                Stop::Signal(signal) => running = stopped.cont(signal)?,
                Stop::Syscall | Stop::Event(_) => running = stopped.cont(0)?,
            },
            Waited::Ended => return Ok(Settled::Gone),
            Waited::Running(waiting) if vfork_child(waiting.tid()).is_some() => return Ok(Settled::Vfork(waiting)),
            Waited::Running(slow) if !deadline.is_over() => running = slow,
            Waited::Running(slow) => {
                let (tid, error) = (slow.tid(), slow.does_not_stop());
                let state = Stat::read(&format!("/proc/{tid}/stat")).map_or('?', |stat| stat.state);
                let at = proc::read_text(&format!("/proc/{tid}/wchan")).unwrap_or_default();
                return Err(error.on(format_args!("state {state} in {at}")));
            }
        }
    }
}

/// Lets a stopped task go just as far as to its next stop, which is the one that was asked for: it runs no instruction of its own.
fn resume_to_stop(stopped: Stopped) -> Result<Running> {
    stopped.interrupt()?;
    let signal = if let Stop::Signal(signal) = stopped.stop() { signal } else { 0 };
    stopped.cont(signal)
}

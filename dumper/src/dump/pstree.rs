//! The processes of a stopped tree: ids, parents, sessions, and which process creates which at a
//! restore. This becomes the record of the tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::dump::sharing;
use crate::error::{Error, Result};
use crate::freeze::bound::StopBound;
use crate::freeze::frozen::{Frozen, FrozenProcess};
use crate::pstree::fork_plan::{self, How, Maker, Member};
use crate::pstree::record::{Ended, Process, Tree};
use crate::pstree::terminal;
use crate::refusals::Refusals;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Stopped;
use crate::sys::signal;
use crate::sys::{cpuid, proc};

/// A process of the tree, stopped or running.
pub struct FoundProcess {
    /// Its id.
    pub pid: Pid,
    /// Its threads that have not ended, ascending.
    pub threads: Vec<Pid>,
    /// The leader has ended while other threads live.
    pub leader_is_zombie: bool,
    /// The whole process has ended.
    pub is_zombie: bool,
    /// The signal by which job control has stopped it.
    pub group_stop: Option<i32>,
}

/// Collects all processes of a stopped tree and puts them in the order of the image.
///
/// # Errors
/// Unsupported, with names: a session that cannot be rebuilt, or a resource that is shared with a
/// process outside the tree or with a process that cannot pass it on.
pub fn collect(frozen: &mut Frozen) -> Result<Tree> {
    for process in &mut frozen.processes {
        // The leader need not have the lowest id. A dump of a held tree also leaves the threads in
        // another order.
        let pid = process.pid;
        process.threads.sort_by_key(|thread| (thread.tid() != pid, thread.tid()));
    }
    let found: Vec<FoundProcess> = frozen.processes.iter().map(found).collect();
    let tree = plan(&found, &frozen.bound, &mut Refusals::first())?;
    let place: BTreeMap<Pid, usize> = tree.processes.iter().enumerate().map(|(at, it)| (it.pid, at)).collect();
    frozen.processes.sort_by_key(|process| place.get(&process.pid).copied());
    Ok(tree)
}

fn found(process: &FrozenProcess) -> FoundProcess {
    let FrozenProcess { pid, ref threads, leader_is_zombie, is_zombie, group_stop } = *process;
    let threads = threads.iter().map(Stopped::tid).collect();
    FoundProcess { pid, threads, leader_is_zombie, is_zombie, group_stop }
}

/// The processes of a tree in the order of the image. Each has a plan for how it is made.
pub fn plan(found: &[FoundProcess], bound: &StopBound, refusals: &mut Refusals) -> Result<Tree> {
    let kinship = Kinship::read(found, refusals)?;
    // A process that runs may have ended since it was found.
    let found: Vec<&FoundProcess> = found.iter().filter(|it| kinship.stats.contains_key(&it.pid)).collect();
    let members = kinship.members(&found, refusals)?;
    let steps = match refusals.sift(fork_plan::plan(&members))? {
        Some(steps) => steps,
        None => fork_plan::by_parents(&members),
    };
    let known: BTreeMap<Pid, &FoundProcess> = found.iter().map(|process| (process.pid, *process)).collect();
    let mut makers = MakerThreads::default();
    let mut processes = Vec::new();
    for step in &steps {
        // A placeholder, unless the process has a task.
        let pid = step.member.pid;
        bound.check(|| format!("pid {pid}"))?;
        let maker = Maker { thread: makers.of(pid, step.maker), ..step.maker };
        let mut process = Process::placeholder(step.member, step.member.sid, maker);
        if let Some(found) = known.get(&pid) {
            let filled = fill(&mut process, found, &kinship.stats[&pid], bound, refusals);
            refusals.sift_of_several(filled)?;
        }
        processes.push(process);
    }
    exit_signals(&mut processes, refusals)?;
    for root in processes.iter().filter(|process| kinship.roots.contains(&process.pid)) {
        let shared = sharing::refuse_sharing_parent(root, refusals);
        refusals.sift_of_several(shared)?;
    }
    let shared = sharing::collect(&mut processes, bound, refusals);
    refusals.sift_of_several(shared)?;
    placeholders_of_groups(&kinship, &mut processes, refusals)?;
    let kernel = proc::read_text("/proc/sys/kernel/osrelease")?.trim().to_owned();
    Ok(Tree { processes, kernel, xsave: cpuid::xsave_layout(), clocks: None })
}

/// What /proc shows of the parents and sessions of a tree.
struct Kinship {
    /// /proc/PID/stat, by process.
    stats: BTreeMap<Pid, Stat>,
    /// The processes with a parent that is not in the tree.
    roots: BTreeSet<Pid>,
    /// Sessions that roots got from outside the tree, and the first root in each. At a restore this
    /// root leads one new session for all processes of the old one.
    homes: BTreeMap<Pid, Pid>,
}

impl Kinship {
    fn read(found: &[FoundProcess], refusals: &mut Refusals) -> Result<Self> {
        let mut stats = BTreeMap::new();
        for process in found {
            let stat = Stat::read(&format!("/proc/{}/stat", process.pid));
            if let Some(stat) = refusals.sift_of_several(stat)? {
                stats.insert(process.pid, stat);
            }
        }
        let pids = found.iter().map(|process| process.pid).filter(|pid| stats.contains_key(pid));
        let in_order: Vec<Pid> = pids.filter(|pid| !stats.contains_key(&stats[pid].ppid())).collect();
        let mut homes = BTreeMap::new();
        for root in &in_order {
            let sid = sid(&stats[root]);
            if !stats.contains_key(&sid) {
                homes.entry(sid).or_insert(*root);
            }
        }
        Ok(Self { stats, roots: in_order.into_iter().collect(), homes })
    }

    /// The session that takes the place of `sid` at a restore.
    fn home(&self, sid: Pid) -> Pid {
        self.homes.get(&sid).copied().unwrap_or(sid)
    }

    /// The processes, in the form that the planner of the forks needs.
    fn members(&self, found: &[&FoundProcess], refusals: &mut Refusals) -> Result<Vec<Member>> {
        let member = |process: &&FoundProcess| {
            let stat = &self.stats[&process.pid];
            Member { pid: process.pid, ppid: stat.ppid(), sid: self.home(sid(stat)) }
        };
        let members: Vec<Member> = found.iter().map(member).collect();
        for Member { pid, sid, .. } in &members {
            if !self.stats.contains_key(sid) && is_alive(*sid) {
                refusals.refuse(Error::unsupported(format!(
                    "pid {pid}: its session {sid} is led by a process outside the tree and cannot be checkpointed"
                )))?;
            }
        }
        Ok(members)
    }
}

fn sid(stat: &Stat) -> Pid {
    stat.field(6) as Pid
}

/// Fills the record of a process of the tree.
fn fill(
    process: &mut Process,
    found: &FoundProcess,
    stat: &Stat,
    bound: &StopBound,
    refusals: &mut Refusals,
) -> Result<()> {
    let pid = process.pid;
    process.sid = sid(stat);
    process.pgid = stat.field(5) as Pid;
    process.exit_signal = stat.exit_signal() as i32;
    if found.is_zombie {
        process.ended = Some(ended(pid, stat)?);
        return Ok(());
    }
    process.threads.push(pid);
    process.threads.extend(found.threads.iter().copied().filter(|tid| *tid != pid));
    process.leader_ended = found.leader_is_zombie.then(|| ended(pid, stat)).transpose()?;
    process.own = sharing::own(process, bound, refusals)?;
    process.stopped_by = found.group_stop;
    let terminal = stat.field(7) as u32;
    process.terminal = (process.sid == pid && terminal != 0).then_some(terminal);
    process.terminal_node = process.terminal.map(terminal::node_of).transpose()?.flatten();
    let foreground = stat.field(8) as i64 as Pid;
    process.foreground = process.terminal.and(Some(foreground)).filter(|group| *group > 0);
    Ok(())
}

/// The threads that processes are children of. The kernel lists children by thread.
#[derive(Default)]
struct MakerThreads(BTreeMap<Pid, BTreeMap<Pid, Pid>>);

impl MakerThreads {
    /// The thread of the parent that the process is a child of, or 0 for the leader.
    fn of(&mut self, pid: Pid, maker: Maker) -> Pid {
        if maker.how != How::Child || maker.by == 0 {
            return 0;
        }
        let threads = self.0.entry(maker.by).or_insert_with(|| threads_of_children(maker.by));
        threads.get(&pid).copied().unwrap_or(0)
    }
}

/// The threads other than the leader that the children of a process belong to, by child.
fn threads_of_children(parent: Pid) -> BTreeMap<Pid, Pid> {
    let mut found = BTreeMap::new();
    let tids = proc::numbers(&format!("/proc/{parent}/task")).unwrap_or_default();
    for tid in tids.into_iter().filter(|tid| *tid != parent) {
        let children = proc::read_text(&format!("/proc/{parent}/task/{tid}/children")).unwrap_or_default();
        let children = children.split_ascii_whitespace().filter_map(|child| child.parse::<Pid>().ok());
        found.extend(children.map(|child| (child, tid)));
    }
    found
}

fn ended(pid: Pid, stat: &Stat) -> Result<Ended> {
    let status = Fields::read(&format!("/proc/{pid}/status"))?;
    let id = |name: &str| status.numbers(name).first().copied().unwrap_or(0) as u32;
    let mut comm = proc::read(&format!("/proc/{pid}/comm"))?;
    comm.pop();
    Ok(Ended { status: stat.field(52) as i32, comm, uid: id("Uid"), gid: id("Gid") })
}

/// A process that is created as a sibling gets its exit signal from its maker, clone(2).
fn exit_signals(processes: &mut [Process], refusals: &mut Refusals) -> Result<()> {
    let siblings: Vec<(Pid, Pid, i32)> = processes
        .iter()
        .filter(|process| process.maker.how == How::Sibling)
        .map(|process| (process.pid, process.maker.by, process.exit_signal))
        .collect();
    for (pid, by, signal) in siblings {
        let Some(maker) = processes.iter_mut().find(|process| process.pid == by) else { continue };
        if maker.is_placeholder() {
            maker.exit_signal = signal;
        } else if maker.exit_signal != signal {
            refusals.refuse(Error::unsupported(format!(
                "pid {pid}: its exit signal {} is not that of pid {by}, its only way into its session",
                signal::name(signal)
            )))?;
        }
    }
    Ok(())
}

/// A group with a dead leader needs a placeholder with its id while the other processes join it.
fn placeholders_of_groups(kinship: &Kinship, processes: &mut Vec<Process>, refusals: &mut Refusals) -> Result<()> {
    // The shell that started a root may have put more groups into its session.
    let is_from_outside = |sid: Pid| kinship.homes.contains_key(&sid) || kinship.roots.contains(&sid);
    let known: BTreeSet<Pid> = processes.iter().map(|process| process.pid).collect();
    let mut dead = BTreeMap::new();
    for process in processes.iter().filter(|process| !known.contains(&process.pgid)) {
        if is_from_outside(process.sid) && (process.pgid == process.sid || is_alive(process.pgid)) {
            // This is a group of the shell that started a root. Its members will be in a root's
            // group.
            continue;
        }
        if is_alive(process.pgid) {
            refusals.refuse(Error::unsupported(format!(
                "pid {}: its group {} is led by a process outside the tree",
                process.pid, process.pgid
            )))?;
            continue;
        }
        dead.entry(process.pgid).or_insert((process.pid, process.sid));
    }
    for (pgid, (member, sid)) in dead {
        let maker = Maker { by: member, how: How::Child, session: kinship.home(sid), thread: 0 };
        processes.push(Process::placeholder(Member { pid: pgid, ppid: member, sid }, pgid, maker));
    }
    Ok(())
}

fn is_alive(pid: Pid) -> bool {
    proc::read_text(&format!("/proc/{pid}/comm")).is_ok()
}

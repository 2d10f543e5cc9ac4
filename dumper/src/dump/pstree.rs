//! Who is who among those that are frozen: ids, parents, sessions, what they share, who is to make whom. Becomes the tree's record.
//!
//! What is shared with somebody outside the tree would be lost. The kernel tells of no descriptor table or address space how many have it:
//! kcmp(2) is asked about the parent of a root at once, and about everybody else on the machine when the tree goes on already, some
//! microseconds for each.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Kind, Result};
use crate::freeze::snapshot_child::is_snapshot_child;
use crate::freeze::{Frozen, FrozenProcess};
use crate::pstree::fork_plan::{self, How, Member};
use crate::pstree::record::{Ended, Process, Share, Tree};
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Stopped;
use crate::sys::{cpuid, proc};

/// Looks at all processes of a frozen tree and puts them in the order of the image.
///
/// # Errors
/// Unsupported, by name: a session that nobody can rebuild, something shared with a process outside or not with the one that can give it.
pub fn look(frozen: &mut Frozen) -> Result<Tree> {
    for process in &mut frozen.processes {
        // The leader need not have the lowest id, and a dump of a held tree has left the threads in another order.
        let pid = process.pid;
        process.threads.sort_by_key(|thread| (thread.tid() != pid, thread.tid()));
    }
    let mut stats = BTreeMap::new();
    for process in &frozen.processes {
        stats.insert(process.pid, Stat::read(&format!("/proc/{}/stat", process.pid))?);
    }
    let sid = |pid: Pid| stats[&pid].field(6) as Pid;
    let pgid = |pid: Pid| stats[&pid].field(5) as Pid;
    let roots: Vec<Pid> = frozen
        .processes
        .iter()
        .filter(|process| !stats.contains_key(&stats[&process.pid].ppid()))
        .map(|process| process.pid)
        .collect();
    // Whoever is in a session that roots got from outside will be in one that the first of them leads.
    let mut homes: BTreeMap<Pid, Pid> = BTreeMap::new();
    for root in roots.iter().filter(|root| !stats.contains_key(&sid(**root))) {
        homes.entry(sid(*root)).or_insert(*root);
    }
    let home = |sid: Pid| homes.get(&sid).copied().unwrap_or(sid);
    let members: Vec<Member> = frozen
        .processes
        .iter()
        .map(|process| Member { pid: process.pid, ppid: stats[&process.pid].ppid(), sid: home(sid(process.pid)) })
        .collect();
    for Member { pid, sid, .. } in &members {
        let is_alive_outside = !stats.contains_key(sid) && proc::read_text(&format!("/proc/{sid}/comm")).is_ok();
        if is_alive_outside {
            let told =
                format!("pid {pid}: its session {sid} is led by a process outside the tree and cannot be checkpointed");
            return Err(Error::unsupported(told));
        }
    }
    let steps = fork_plan::plan(&members)?;
    let mut at: BTreeMap<Pid, FrozenProcess> =
        std::mem::take(&mut frozen.processes).into_iter().map(|process| (process.pid, process)).collect();
    let mut processes = Vec::new();
    for step in &steps {
        // Until somebody is found who has a task.
        let pid = step.member.pid;
        let made = fork_plan::Maker { thread: maker_thread(pid, step.maker), ..step.maker };
        let mut process = Process::placeholder(step.member, step.member.sid, made);
        if let Some(found) = at.remove(&pid) {
            let stat = &stats[&pid];
            process.sid = sid(pid);
            process.pgid = pgid(pid);
            process.exit_signal = stat.exit_signal() as i32;
            if found.is_zombie {
                process.ended = Some(ended(pid, stat)?);
            } else {
                process.threads.push(pid);
                process.threads.extend(found.threads.iter().map(Stopped::tid).filter(|tid| *tid != pid));
                process.leader_ended = found.leader_is_zombie.then(|| ended(pid, stat)).transpose()?;
                process.own = own(&process)?;
                process.stopped_by = found.group_stop;
                let terminal = stat.field(7) as u32;
                process.terminal = (process.sid == pid && terminal != 0).then_some(terminal);
                let foreground = stat.field(8) as i64 as Pid;
                process.foreground = process.terminal.and(Some(foreground)).filter(|group| *group > 0);
            }
            frozen.processes.push(found);
        }
        processes.push(process);
    }
    exit_signals(&mut processes)?;
    for root in processes.iter().filter(|process| roots.contains(&process.pid)) {
        refuse_sharing_parent(root)?;
    }
    sharing(&mut processes)?;
    // The shell that started a root may have put more than that into its session.
    let is_from_outside = |sid: Pid| homes.contains_key(&sid) || roots.contains(&sid);
    ghosts_of_groups(home, is_from_outside, &mut processes)?;
    let kernel = proc::read_text("/proc/sys/kernel/osrelease")?.trim().to_owned();
    Ok(Tree { processes, kernel, xsave: cpuid::xsave_layout() })
}

/// The thread whose child it is, if that is not the leader: children are listed by thread.
fn maker_thread(pid: Pid, made: fork_plan::Maker) -> Pid {
    if made.how != How::Child || made.by == 0 {
        return 0;
    }
    let word = pid.to_string();
    let tids = proc::numbers(&format!("/proc/{}/task", made.by)).unwrap_or_default();
    let others: Vec<Pid> = tids.into_iter().filter(|tid| *tid != made.by).collect();
    let is_its = |tid: &Pid| {
        let children = proc::read_text(&format!("/proc/{}/task/{tid}/children", made.by)).unwrap_or_default();
        children.split_ascii_whitespace().any(|child| child == word)
    };
    others.into_iter().find(is_its).unwrap_or(0)
}

fn ended(pid: Pid, stat: &Stat) -> Result<Ended> {
    let status = Fields::read(&format!("/proc/{pid}/status"))?;
    let id = |name: &str| status.numbers(name).first().copied().unwrap_or(0) as u32;
    let mut comm = proc::read(&format!("/proc/{pid}/comm"))?;
    comm.pop();
    Ok(Ended { status: stat.field(52) as i32, comm, uid: id("Uid"), gid: id("Gid") })
}

/// A process that is made as a sibling gets its exit signal from its maker, clone(2).
fn exit_signals(processes: &mut [Process]) -> Result<()> {
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
            let told =
                format!("pid {pid}: its exit signal {signal} is not that of pid {by}, its only way into its session");
            return Err(Error::unsupported(told));
        }
    }
    Ok(())
}

/// What threads have to themselves. Two that share it only with each other could not be given it.
fn own(process: &Process) -> Result<Vec<(Pid, Share)>> {
    let speaker = process.representative();
    let mut own: Vec<(Pid, Share)> = Vec::new();
    for tid in process.threads.iter().copied().filter(|tid| *tid != speaker && *tid != process.pid) {
        for share in [Share::Fs, Share::Files] {
            if kcmp::kcmp(speaker, tid, share.kcmp(), 0, 0)? {
                continue;
            }
            for (other, _) in own.iter().filter(|(_, theirs)| *theirs == share) {
                if kcmp::kcmp(*other, tid, share.kcmp(), 0, 0)? {
                    let told = format!(
                        "pid {}: threads {other} and {tid} share descriptors or directories apart",
                        process.pid
                    );
                    return Err(Error::unsupported(told));
                }
            }
            own.push((tid, share));
        }
    }
    Ok(own)
}

/// In words.
fn name(share: Share) -> &'static str {
    match share {
        Share::Vm => "address space",
        Share::Fs => "root, working directory and umask",
        Share::Files => "descriptor table",
        Share::Sighand => "signal actions",
    }
}

/// Refuses a root that shares something with its parent, which is not here.
fn refuse_sharing_parent(root: &Process) -> Result<()> {
    for share in Share::ALL.into_iter().filter(|_| root.ppid > 0) {
        // Gone meanwhile, or not to be looked at: then it is not the one that shares.
        if kcmp::kcmp(root.representative(), root.ppid, share.kcmp(), 0, 0).unwrap_or(false) {
            return Err(shared_outside(root.pid, share, root.ppid));
        }
    }
    Ok(())
}

/// Refuses processes that share something with anybody who is not here. The tree, which was stopped at the tick `stopped_at` of the clock since
/// boot, may go on meanwhile.
pub fn refuse_sharing_outside(tree: &Tree, stopped_at: u64) -> Result<()> {
    let inside: BTreeSet<Pid> = tree.processes.iter().map(|process| process.pid).collect();
    let outside: Vec<Pid> = proc::numbers("/proc")?.into_iter().filter(|pid| !inside.contains(pid)).collect();
    let alive = || tree.processes.iter().filter(|process| !process.threads.is_empty());
    for share in Share::ALL {
        let what = share.kcmp();
        let alone = alive().flat_map(|process| &process.own).filter(|(_, what)| *what == share).map(|(tid, _)| *tid);
        let ours = in_order(alive().map(Process::representative).chain(alone), what, &mut |_| {});
        for other in &outside {
            // Who has ended meanwhile has an order no more: then everybody is asked.
            let mut is_ordered = true;
            let found = ours.binary_search_by(|tid| {
                kcmp::kcmp_order(*tid, *other, what, 0, 0).unwrap_or_else(|_| {
                    is_ordered = false;
                    Ordering::Less
                })
            });
            let is_same = |tid: &Pid| kcmp::kcmp(*tid, *other, what, 0, 0).unwrap_or(false);
            let found = if is_ordered { found.ok() } else { ours.iter().position(is_same) };
            if let Some(tid) = found.and_then(|at| ours.get(at))
                && [*tid, *other].into_iter().all(has_something)
                && was_there(*other, &inside, stopped_at)
                && !is_snapshot_child(*other)
            {
                let pid = alive().find(|process| process.threads.contains(tid)).map_or(*tid, |process| process.pid);
                return Err(shared_outside(pid, share, *other));
            }
        }
    }
    Ok(())
}

/// Tasks in the order of what they have, by kcmp(2); those that have ended are left out, and `failed` hears why. By insertion: a task that ends
/// meanwhile has no order any more, at which the sorts of the standard library may panic.
fn in_order(tids: impl Iterator<Item = Pid>, what: Kcmp, failed: &mut dyn FnMut(Error)) -> Vec<Pid> {
    let mut sorted: Vec<Pid> = Vec::new();
    for tid in tids {
        // Who stands in the way by having ended goes first.
        while has_something(tid) {
            let mut is_known = true;
            let at = sorted.partition_point(|other| {
                kcmp::kcmp_order(*other, tid, what, 0, 0).map(Ordering::is_lt).unwrap_or_else(|error| {
                    is_known = false;
                    failed(error);
                    false
                })
            });
            let count = sorted.len();
            if is_known {
                sorted.insert(at, tid);
            } else {
                sorted.retain(|other| has_something(*other));
            }
            if sorted.len() >= count {
                break;
            }
        }
    }
    sorted
}

/// Whether it is neither a thread of the kernel nor one that has begun to end: all those have none of the four, and that is no sharing.
fn has_something(pid: Pid) -> bool {
    Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.is_exiting() && !stat.is_kernel_thread())
}

/// Whether this outsider was one already when the tree stood still: neither a child of it nor born since, by vfork(2) for instance.
fn was_there(pid: Pid, inside: &BTreeSet<Pid>, stopped_at: u64) -> bool {
    Stat::read(&format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.started() < stopped_at && !inside.contains(&stat.ppid()))
}

fn shared_outside(pid: Pid, share: Share, other: Pid) -> Error {
    let name = name(share);
    Error::unsupported(format!("pid {pid}: it shares its {name} with pid {other}, which is outside the tree"))
}

/// What each shares with its maker. What it shares with anybody else cannot be rebuilt.
fn sharing(processes: &mut [Process]) -> Result<()> {
    let alive: Vec<Pid> =
        processes.iter().filter(|process| !process.threads.is_empty()).map(Process::representative).collect();
    let apart: Vec<(Pid, Share)> = processes.iter().flat_map(|process| process.own.iter().copied()).collect();
    for (tid, share) in apart {
        for other in &alive {
            if kcmp::kcmp(tid, *other, share.kcmp(), 0, 0)? {
                let told = format!("pid {other}: it shares descriptors or directories with thread {tid} alone");
                return Err(Error::unsupported(told));
            }
        }
    }
    for share in Share::ALL {
        let what = share.kcmp();
        let mut failed = None;
        let sorted = in_order(alive.iter().copied(), what, &mut |error| failed = Some(error));
        if let Some(error) = failed {
            return Err(error);
        }
        if sorted.len() < alive.len() {
            return Err(Error::new(Kind::NoProcess, "a process of the tree was killed while it stood still"));
        }
        let mut groups: Vec<BTreeSet<Pid>> = Vec::new();
        for pid in sorted {
            match groups.last_mut() {
                Some(group)
                    if group.first().is_some_and(|first| kcmp::kcmp(*first, pid, what, 0, 0).unwrap_or(false)) =>
                {
                    group.insert(pid);
                }
                _ => groups.push(BTreeSet::from([pid])),
            }
        }
        for group in groups.iter().filter(|group| group.len() > 1) {
            let mut first = true;
            let of_group: BTreeSet<Pid> = processes
                .iter()
                .filter(|process| !process.threads.is_empty() && group.contains(&process.representative()))
                .map(|process| process.pid)
                .collect();
            for process in processes.iter_mut().filter(|process| of_group.contains(&process.pid)) {
                if std::mem::take(&mut first) {
                    continue;
                }
                if !of_group.contains(&process.maker.by) || process.maker.how == How::Orphan {
                    let told = format!(
                        "pid {}: it shares its {} with a process that is not its parent",
                        process.pid,
                        name(share)
                    );
                    return Err(Error::unsupported(told));
                }
                process.shares.push(share);
            }
        }
    }
    Ok(())
}

/// Groups whose leader is dead need somebody with its id for as long as the others join.
fn ghosts_of_groups(
    home: impl Fn(Pid) -> Pid,
    is_from_outside: impl Fn(Pid) -> bool,
    processes: &mut Vec<Process>,
) -> Result<()> {
    let known: BTreeSet<Pid> = processes.iter().map(|process| process.pid).collect();
    let mut dead = BTreeMap::new();
    for process in processes.iter().filter(|process| !known.contains(&process.pgid)) {
        if is_from_outside(process.sid) && (process.pgid == process.sid || is_there(process.pgid)) {
            // A group of the shell that started a root: its members will be in a root's.
            continue;
        }
        if is_there(process.pgid) {
            let told = format!("pid {}: its group {} is led by a process outside the tree", process.pid, process.pgid);
            return Err(Error::unsupported(told));
        }
        dead.entry(process.pgid).or_insert((process.pid, process.sid));
    }
    for (pgid, (member, sid)) in dead {
        let made = fork_plan::Maker { by: member, how: How::Child, session: home(sid), thread: 0 };
        processes.push(Process::placeholder(Member { pid: pgid, ppid: member, sid }, pgid, made));
    }
    Ok(())
}

fn is_there(pid: Pid) -> bool {
    proc::read_text(&format!("/proc/{pid}/comm")).is_ok()
}

//! What processes and threads share: address space, directories, descriptors, signal actions.
//!
//! Sharing with a process outside the tree would be lost. The kernel does not show how many tasks
//! use a descriptor table or an address space, so kcmp(2) is asked: about the parent of a root
//! while the tree is stopped, and about every other process of the machine when the tree runs
//! again. Each call takes some microseconds.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::dump::kcmp_set::KcmpSet;
use crate::error::{Error, Kind, Result};
use crate::freeze::bound::StopBound;
use crate::freeze::snapshot_child::is_snapshot_child;
use crate::pstree::fork_plan::How;
use crate::pstree::record::{Process, Share, Tree};
use crate::refusals::Refusals;
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;

/// What threads have to themselves. Two threads that share something only with each other are
/// refused, because a restore could not give it to both.
pub fn own(process: &Process, bound: &StopBound, refusals: &mut Refusals) -> Result<Vec<(Pid, Share)>> {
    let speaker = process.representative();
    let mut own: Vec<(Pid, Share)> = Vec::new();
    for share in [Share::Fs, Share::Files] {
        let what = share.kcmp();
        let mut apart: KcmpSet<Pid> = KcmpSet::default();
        for tid in process.threads.iter().copied().filter(|tid| *tid != speaker && *tid != process.pid) {
            bound.check(|| format!("pid {}: its threads", process.pid))?;
            if kcmp::kcmp(speaker, tid, what, 0, 0)? {
                continue;
            }
            match apart.find(|other| kcmp::kcmp_order(*other, tid, what, 0, 0))? {
                Ok(other) => {
                    let (pid, shared) = (process.pid, "share descriptors or directories apart");
                    let refused = format!("pid {pid}: threads {other} and {tid} {shared}");
                    refusals.refuse(Error::unsupported(refused))?;
                }
                Err(place) => apart.insert(place, tid),
            }
            own.push((tid, share));
        }
    }
    own.sort_unstable_by_key(|(tid, _)| *tid);
    Ok(own)
}

/// Refuses a root that shares something with its parent, which is outside the tree.
pub fn refuse_sharing_parent(root: &Process, refusals: &mut Refusals) -> Result<()> {
    for share in Share::ALL.into_iter().filter(|_| root.ppid > 0) {
        // A parent that has ended or that may not be examined is not the sharing process.
        if kcmp::kcmp(root.representative(), root.ppid, share.kcmp(), 0, 0).unwrap_or(false) {
            refusals.refuse(shared_outside(root.pid, share, root.ppid))?;
        }
    }
    Ok(())
}

/// Refuses processes that share something with a process outside the tree. The tree was stopped at
/// the tick `stopped_at` of the clock since boot, and may run again meanwhile.
pub fn refuse_sharing_outside(tree: &Tree, stopped_at: u64, refusals: &mut Refusals) -> Result<()> {
    let inside: BTreeSet<Pid> = tree.processes.iter().map(|process| process.pid).collect();
    let outside: Vec<Pid> = proc::numbers("/proc")?.into_iter().filter(|pid| !inside.contains(pid)).collect();
    let alive = || tree.processes.iter().filter(|process| !process.threads.is_empty());
    for share in Share::ALL {
        let what = share.kcmp();
        let alone = alive().flat_map(|process| &process.own).filter(|(_, what)| *what == share).map(|(tid, _)| *tid);
        let ours = in_order(alive().map(Process::representative).chain(alone), what, &mut |_| {});
        for other in &outside {
            // A task that has ended meanwhile has no place in the order any more. All tasks are
            // asked then.
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
                refusals.refuse(shared_outside(pid, share, *other))?;
            }
        }
    }
    Ok(())
}

/// The order of what two tasks have. A task that has ended has no place, and `failed` gets the
/// reason.
fn order(task: Pid, other: Pid, what: Kcmp, failed: &mut Option<Error>) -> Ordering {
    kcmp::kcmp_order(task, other, what, 0, 0).unwrap_or_else(|error| {
        *failed = Some(error);
        Ordering::Less
    })
}

/// Sorts tasks by what they have, with kcmp(2). Tasks that have ended are left out, and `failed`
/// gets the reason. It sorts by insertion: a task that ends meanwhile has no place in the order any
/// more, and the sorts of the standard library may panic at that.
fn in_order(tids: impl Iterator<Item = Pid>, what: Kcmp, failed: &mut dyn FnMut(Error)) -> Vec<Pid> {
    let mut sorted: Vec<Pid> = Vec::new();
    for tid in tids {
        // Tasks that have ended cannot be compared, so they are removed first.
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

/// Whether it has any of the four things. A kernel thread and a task that has begun to end have
/// none of them, and two tasks with none do not share.
fn has_something(pid: Pid) -> bool {
    Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.is_exiting() && !stat.is_kernel_thread())
}

/// Whether this process existed outside the tree already when the tree was stopped. A child of the
/// tree or a process born since, for instance by vfork(2), does not count.
fn was_there(pid: Pid, inside: &BTreeSet<Pid>, stopped_at: u64) -> bool {
    Stat::read(&format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.started() < stopped_at && !inside.contains(&stat.ppid()))
}

fn shared_outside(pid: Pid, share: Share, other: Pid) -> Error {
    let name = name(share);
    Error::unsupported(format!("pid {pid}: it shares its {name} with pid {other}, which is outside the tree"))
}

/// Records what each process shares with its maker. What it shares with any other process cannot be
/// rebuilt.
pub fn collect(processes: &mut [Process], bound: &StopBound, refusals: &mut Refusals) -> Result<()> {
    let alive: Vec<Pid> =
        processes.iter().filter(|process| !process.threads.is_empty()).map(Process::representative).collect();
    for share in Share::ALL {
        bound.check(|| "the tree: what its processes share")?;
        let what = share.kcmp();
        let mut failed = None;
        let sorted = in_order(alive.iter().copied(), what, &mut |error| failed = Some(error));
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if sorted.len() < alive.len() {
            return Err(Error::new(Kind::NoProcess, "a process of the tree was killed while it was stopped"));
        }
        for (tid, _) in processes.iter().flat_map(|process| &process.own).filter(|(_, what)| *what == share) {
            let found = sorted.binary_search_by(|other| order(*other, *tid, what, &mut failed));
            if let Some(other) = found.ok().and_then(|at| sorted.get(at)) {
                let refused = format!("pid {other}: it shares descriptors or directories with thread {tid} alone");
                refusals.refuse(Error::unsupported(refused))?;
            }
        }
        if let Some(error) = failed {
            return Err(error);
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
                    let refused = format!(
                        "pid {}: it shares its {} with a process that is not its parent",
                        process.pid,
                        name(share)
                    );
                    refusals.refuse(Error::unsupported(refused))?;
                }
                process.shares.push(share);
            }
        }
    }
    Ok(())
}

/// The name that errors use.
fn name(share: Share) -> &'static str {
    match share {
        Share::Vm => "address space",
        Share::Fs => "root, working directory and umask",
        Share::Files => "descriptor table",
        Share::Sighand => "signal actions",
    }
}

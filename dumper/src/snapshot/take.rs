//! Takes a snapshot: freeze, collect, fork, thaw.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cow::children::Children;
use crate::error::Result;
use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::entry::Prelook;
use crate::freeze::target::Target;
use crate::freeze::{self, Frozen, cgroup, snapshot_child};
use crate::memory::source::Kept;
use crate::options::{Options, SnapshotUse};
use crate::snapshot::SnapshotData;
use crate::snapshot::collect::{Collected, see};
use crate::snapshot::layout::tell;
use crate::snapshot::source::{Forks, SnapshotSource};
use crate::sys::pid::Pid;
use crate::sys::proc::locks;
use crate::task::restart_block::SleepTimers;

/// Freezes, looks, forks, thaws.
pub fn take(
    target: &Target,
    options: &Options,
    freezer: Option<&CgroupFreezer>,
    purpose: SnapshotUse,
) -> Result<(SnapshotData, SnapshotSource)> {
    let pids = target.members()?;
    snapshot_child::wait_for_the_dying(&pids);
    // A process that cannot be looked at now is told of once it is stopped.
    let premises = pids.iter().filter_map(|pid| Some((*pid, Prelook::find(*pid).ok()?))).collect();
    let timers = SleepTimers::before(&pids);
    locks::prepare();
    let mut frozen = freeze::freeze(target, options.freeze_timeout, freezer)?;
    let timers = timers.gone();
    let mut forks = Forks::default();
    let seen = see(&mut frozen, premises, &timers, Some(&mut forks), options);
    let stopped = frozen.since.elapsed();
    let (seen, failure) = match (seen, forks.failure.take()) {
        (Ok(_), Some(error)) | (Err(error), _) if purpose == SnapshotUse::Pin => (Err(error), None),
        told => told,
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            drop(frozen);
            forks.children.end();
            return Err(error);
        }
    };
    let mut held = match failure {
        None => {
            drop(frozen);
            SnapshotSource::Children(forks.children)
        }
        Some(error) => {
            log::info!("{target}: no copy-on-write child ({error}); it stays stopped while it is read");
            forks.kept.clear();
            frozen.turn = None;
            SnapshotSource::Tree(frozen, forks.children)
        }
    };
    let told = match &mut held {
        SnapshotSource::Children(children) => tell_of_children(target, seen, children, forks.kept, stopped, options),
        SnapshotSource::Tree(..) => tell_of_stopped(target, seen, stopped, options),
    };
    match told {
        Ok(taken) => {
            if let (SnapshotSource::Children(children), SnapshotUse::Pin) = (&mut held, purpose) {
                children.stand_aside();
            }
            Ok((taken, held))
        }
        Err(error) => {
            held.let_go();
            Err(error)
        }
    }
}

/// What the children of a tree tell, which may go on meanwhile.
pub fn tell_of_children(
    target: &Target,
    mut seen: Collected,
    children: &mut Children,
    kept: BTreeMap<(Pid, u64), Kept>,
    stopped: Duration,
    options: &Options,
) -> Result<SnapshotData> {
    seen.settle(options)?;
    let shared: BTreeMap<Pid, Vec<(u64, u64)>> =
        seen.looked.processes.iter().map(|process| (process.pid, process.shared_mappings())).collect();
    let mut taken = tell(target, seen, children.pids(), kept, stopped)?;
    taken.children = children.pids().into_values().collect();
    children.close_files(&shared);
    Ok(taken)
}

/// What a stopped tree tells.
pub fn tell_of_stopped(
    target: &Target,
    mut seen: Collected,
    stopped: Duration,
    options: &Options,
) -> Result<SnapshotData> {
    seen.settle(options)?;
    let speakers = seen.looked.speakers();
    tell(target, seen, speakers, BTreeMap::new(), stopped)
}

/// A snapshot of what is stopped anyway: read from the processes themselves.
pub fn take_of_held(
    target: &Target,
    frozen: &mut Frozen,
    timers: &SleepTimers,
    options: &Options,
) -> Result<SnapshotData> {
    let seen = see_held(frozen, timers, None, options)?;
    let stopped = frozen.since.elapsed();
    tell_of_stopped(target, seen, stopped, options)
}

/// A snapshot of what is stopped anyway, that is kept when it goes on. Whatever came of it, the children are to be ended, and cannot be
/// reaped before the tree goes on.
pub fn keep_of_held(
    target: &Target,
    frozen: &mut Frozen,
    timers: &SleepTimers,
    options: &Options,
) -> (Result<SnapshotData>, Children) {
    let mut forks = Forks::default();
    let seen = see_held(frozen, timers, Some(&mut forks), options);
    let stopped = frozen.since.elapsed();
    let Forks { mut children, kept, failure, .. } = forks;
    let told = match (seen, failure) {
        (Ok(_), Some(error)) | (Err(error), _) => Err(error),
        (Ok(seen), None) => tell_of_children(target, seen, &mut children, kept, stopped, options),
    };
    children.stand_aside();
    (told, children)
}

pub fn see_held(
    frozen: &mut Frozen,
    timers: &SleepTimers,
    forks: Option<&mut Forks>,
    options: &Options,
) -> Result<Collected> {
    cgroup::refuse_frozen(&frozen.processes.iter().map(|process| process.pid).collect::<Vec<_>>())?;
    see(frozen, BTreeMap::new(), timers, forks, options)
}

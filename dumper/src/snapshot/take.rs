//! Takes a snapshot: freeze, collect, fork, thaw, lay out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cow::children::Children;
use crate::cow::room;
use crate::error::{Kind, Result};
use crate::freeze::entry::Prelook;
use crate::freeze::frozen::Frozen;
use crate::freeze::{self, cgroup, snapshot_child};
use crate::options::SnapshotUse;
use crate::snapshot::SnapshotData;
use crate::snapshot::collect::{Collected, TreeCollector};
use crate::snapshot::fork::Forks;
use crate::snapshot::job::TracerJob;
use crate::snapshot::layout::layout;
use crate::snapshot::source::{Forked, SnapshotSource};
use crate::sys::pid::Pid;
use crate::sys::proc::locks;
use crate::task::restart_block::SleepTimers;

/// How often a tree is stopped if it is in a state that passes by itself.
const TRIES: u32 = 20;

/// Takes a snapshot of a running tree. Returns it with its source.
pub fn take(job: &TracerJob, purpose: SnapshotUse) -> Result<(SnapshotData, SnapshotSource)> {
    for tried in 1..TRIES {
        match take_once(job, purpose) {
            Err(error) if error.kind() == Kind::Passing => std::thread::sleep(Duration::from_millis(tried.into())),
            taken => return taken,
        }
    }
    take_once(job, purpose)
}

fn take_once(job: &TracerJob, purpose: SnapshotUse) -> Result<(SnapshotData, SnapshotSource)> {
    let TracerJob { target, options, .. } = job;
    // Before the freeze: slow work.
    let pids = target.members()?;
    snapshot_child::wait_for_dying(&pids);
    // A process that cannot be examined now is reported once it is stopped.
    let prelooks = pids.iter().filter_map(|pid| Some((*pid, Prelook::find(*pid).ok()?))).collect();
    let timers = SleepTimers::before(&pids);
    let tight = room::check(&pids).err();
    if let (Some(error), SnapshotUse::Pin) = (&tight, purpose) {
        return Err(error.clone().on(target));
    }
    locks::prepare();
    // From here on the tree is stopped.
    let mut frozen = freeze::freeze(target, &job.bound(), job.cgroup())?;
    let timers = timers.gone();
    let mut forks = Forks::new(tight);
    let collected = TreeCollector { prelooks, timers: &timers, options }.collect(&mut frozen, Some(&mut forks));
    let Forks { children, failure, .. } = forks;
    // From here on every error drops the source. That resumes the tree, and then ends the children.
    let mut source = SnapshotSource::new(frozen, children);
    let collected = collected?;
    let data = match (failure, purpose) {
        (None, _) => {
            source.thaw();
            read_from_children(job, collected, &mut source.children)?
        }
        (Some(error), SnapshotUse::Pin) => return Err(error),
        (Some(error), SnapshotUse::Stream) => {
            log::info!("{target}: no copy-on-write child ({error}); it stays stopped while it is read");
            source.frozen().into_iter().for_each(|frozen| frozen.turn = None);
            let data = read_from_stopped_tree(job, collected)?;
            SnapshotData { read_while_stopped: Some(error.to_string()), ..data }
        }
    };
    if purpose == SnapshotUse::Pin {
        source.children.stand_aside();
    }
    Ok((data, source))
}

/// A snapshot of a tree that `freeze` holds stopped, read from its processes themselves.
pub fn stream_held(job: &TracerJob, frozen: &mut Frozen, timers: &SleepTimers) -> Result<SnapshotData> {
    let collected = collect_held(job, frozen, timers, None)?;
    read_from_stopped_tree(job, collected)
}

/// Takes a snapshot of a tree that `freeze` holds stopped. It is read from children, so it outlives
/// the hold. On success and on failure the children must be ended, and cannot be reaped before the
/// tree runs again.
pub fn pin_held(job: &TracerJob, frozen: &mut Frozen, timers: &SleepTimers) -> (Result<SnapshotData>, Children) {
    let pids: Vec<Pid> = frozen.processes.iter().map(|process| process.pid).collect();
    if let Err(error) = room::check(&pids) {
        return (Err(error.on(&job.target)), Children::default());
    }
    let mut forks = Forks::new(None);
    let collected = collect_held(job, frozen, timers, Some(&mut forks));
    let Forks { mut children, failure, .. } = forks;
    let data = collected
        .and_then(|collected| failure.map_or(Ok(collected), Err))
        .and_then(|collected| read_from_children(job, collected, &mut children));
    children.stand_aside();
    (data, children)
}

fn collect_held(
    job: &TracerJob,
    frozen: &mut Frozen,
    timers: &SleepTimers,
    forks: Option<&mut Forks>,
) -> Result<Collected> {
    let pids: Vec<Pid> = frozen.processes.iter().map(|process| process.pid).collect();
    cgroup::refuse_frozen(&pids)?;
    TreeCollector { prelooks: BTreeMap::new(), timers, options: &job.options }.collect(frozen, forks)
}

/// The snapshot of a tree that was forked and may run meanwhile.
fn read_from_children(job: &TracerJob, mut collected: Collected, children: &mut Children) -> Result<SnapshotData> {
    collected.check_outside()?;
    let forked = Forked::with_children(collected, children);
    let shared = forked.shared_mappings();
    let data = layout(&job.target, forked, job.options.restore.key.as_ref())?;
    // Only now, because the flags and pages of these mappings were read from the children.
    children.close_files(&shared);
    Ok(data)
}

/// The snapshot of a tree that stays stopped for as long as it is read.
fn read_from_stopped_tree(job: &TracerJob, mut collected: Collected) -> Result<SnapshotData> {
    collected.check_outside()?;
    layout(&job.target, Forked::with_stopped_tree(collected), job.options.restore.key.as_ref())
}

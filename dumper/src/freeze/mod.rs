//! Stops a whole tree, or all trees of a cgroup. [`Frozen`] resumes it on Drop.
//!
//! Until every task is stopped, new threads and children can appear, so all tasks are listed again
//! and again until a whole pass finds no new one. If the target is a whole cgroup, or a tree of one
//! that grows all the time, the cgroup is frozen first, so that no task forks meanwhile. It is
//! thawed before [`freeze`] returns, because a task frozen by its cgroup cannot make a system call
//! for the daemon. ptrace holds the tasks by then. Where one tree is stopped, the other tasks of
//! the cgroup go on.

mod attempt;
pub mod bound;
pub mod cgroup;
pub mod entry;
pub mod frozen;
pub mod hole;
pub mod snapshot_child;
pub mod target;
pub mod tracing;
pub mod vfork;

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::freeze::attempt::{Attempt, Growing, Outcome};
use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::{CgroupFreezer, Turn, refuse_frozen};
use crate::freeze::frozen::Frozen;
use crate::freeze::target::Target;
use crate::freeze::vfork::behind_wait;

/// Freezes all of `target` within `bound`. `cgroup` is the cgroup of a target in one, and what may
/// be done to it.
///
/// # Errors
/// [`Kind::Busy`] if it does not stop in time, another process traces it or its cgroup is frozen
/// already. [`Kind::Unsupported`] if a task waits in vfork(2) all that time. [`Kind::NoProcess`] if
/// it is gone. [`Kind::Interrupted`] if the caller is killed meanwhile. On an error all stopped
/// tasks are resumed.
pub fn freeze(target: &Target, bound: &StopBound, cgroup: Option<(&CgroupFreezer, Turn)>) -> Result<Frozen> {
    // A tree stands still without its cgroup, unless it grows all the time.
    let alone = match cgroup {
        Some((freezer, Turn::Alone)) if target.root().is_some() => {
            stop(target, bound, Some((freezer, Turn::Shared)), Growing::Ends)?
        }
        _ => None,
    };
    let mut frozen = match alone {
        Some(frozen) => frozen,
        None => {
            let frozen = stop(target, bound, cgroup, Growing::GoesOn)?;
            frozen.ok_or_else(|| Error::new(Kind::Busy, format!("{target}: it grows")))?
        }
    };
    frozen.begin_with_a_root();
    let pids = frozen.processes.iter().map(|process| process.pid).collect();
    target.refuse_lost_children(&pids)?;
    match frozen.processes.first() {
        Some(first) if target.root().is_none_or(|root| root == first.pid) && !first.is_zombie => Ok(frozen),
        _ => Err(Error::new(Kind::NoProcess, format!("{target}: no such process"))),
    }
}

/// How often a refusal to trace may turn out to have no reason any more.
const UNEXPLAINED_MOST: u32 = 100;

/// How much longer the tasks of an attempt run before the next one than they were stopped in it,
/// because a task did not stop.
const RUN_AGAIN: u32 = 4;

/// How long that is at most.
const RUN_AGAIN_MOST: Duration = Duration::from_millis(400);

/// How long the others stay stopped for a task that sleeps uninterruptibly, as in a read of a disk:
/// in the first attempt, and at most.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_MOST: Duration = Duration::from_millis(400);

/// Attempts to stop all of `target` until one attempt succeeds. Each attempt starts anew, after the
/// tasks of the previous one are resumed, and has a turn of its own. `None`: the target grows all
/// the time, and [`Growing::Ends`].
fn stop(
    target: &Target,
    bound: &StopBound,
    cgroup: Option<(&CgroupFreezer, Turn)>,
    growing: Growing,
) -> Result<Option<Frozen>> {
    let deadline = bound.deadline();
    let mut returned = None;
    let mut unexplained = 0;
    let mut patience = PATIENCE;
    let mut is_first = true;
    loop {
        let turn = cgroup.map(|(freezer, turn)| freezer.turn(bound, turn)).transpose()?;
        if std::mem::take(&mut is_first) {
            refuse_frozen(&target.members()?)?;
        }
        let frozen = match cgroup {
            Some((freezer, Turn::Alone)) => Some(freezer.freeze(bound)?),
            Some((_, Turn::Shared)) | None => None,
        };
        let began = Instant::now();
        let mut attempt = Attempt::new(target, bound, returned.take(), frozen, growing, patience);
        match attempt.stop_all()? {
            Outcome::Stopped => {
                let mut frozen = attempt.into_frozen();
                frozen.turn = turn;
                return Ok(Some(frozen));
            }
            Outcome::Grows => return Ok(None),
            // Another session of this program, perhaps of another mount, is about to release the
            // tasks. All tasks are resumed meanwhile.
            Outcome::Contended(error) => {
                // The kernel refuses, although no process traces the task. Either its tracer has
                // released it in between, or the refusal will not change.
                unexplained += u32::from(error.kind() != Kind::Busy);
                if deadline.is_over() || unexplained > UNEXPLAINED_MOST {
                    return Err(error);
                }
                drop((attempt, turn));
                bound.check_reader()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Outcome::Waits(waiting) => {
                let (stopped, resumed) = (began.elapsed(), Instant::now());
                drop((attempt, turn));
                returned = behind_wait(waiting, bound)?;
                // A task may wait again and again. The others run most of the time.
                let rest = (stopped * RUN_AGAIN).min(RUN_AGAIN_MOST).saturating_sub(resumed.elapsed());
                std::thread::sleep(rest.min(deadline.left() / 2));
                patience = (2 * patience).min(PATIENCE_MOST);
            }
        }
    }
}

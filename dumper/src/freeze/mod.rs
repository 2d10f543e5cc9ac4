//! Stops a whole tree, or all trees of a cgroup. [`Frozen`] resumes it on Drop.
//!
//! Until every task is stopped, new threads and children can appear, so all tasks are listed again
//! and again until a whole pass finds no new one. If the container is a cgroup, it is frozen first,
//! so that no task forks meanwhile. The cgroup is thawed before [`freeze`] returns, because a task
//! frozen by its cgroup cannot make a system call for the daemon. ptrace holds the tasks by then.

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

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::freeze::attempt::{Attempt, Outcome};
use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::frozen::Frozen;
use crate::freeze::target::Target;
use crate::freeze::vfork::behind_vfork;

/// Freezes all of `target` within `bound`.
///
/// # Errors
/// [`Kind::Busy`] if it does not stop in time, another process traces it or its cgroup is frozen
/// already. [`Kind::Unsupported`] if a task waits in vfork(2) all that time. [`Kind::NoProcess`] if
/// it is gone. [`Kind::Interrupted`] if the caller is killed meanwhile. On an error all stopped
/// tasks are resumed.
pub fn freeze(target: &Target, bound: &StopBound, freezer: Option<&CgroupFreezer>) -> Result<Frozen> {
    let turn = freezer.map(|freezer| freezer.turn(bound)).transpose()?;
    cgroup::refuse_frozen(&target.members()?)?;
    let mut frozen = stop(target, bound, freezer)?;
    frozen.turn = turn;
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

/// Attempts to stop all of `target` until one attempt succeeds. Each attempt starts anew, after the
/// tasks of the previous one are resumed.
fn stop(target: &Target, bound: &StopBound, freezer: Option<&CgroupFreezer>) -> Result<Frozen> {
    let deadline = bound.deadline();
    let mut returned = None;
    let mut unexplained = 0;
    loop {
        let cgroup = freezer.map(|freezer| freezer.freeze(bound)).transpose()?;
        let mut attempt = Attempt::new(target, bound, returned.take());
        match attempt.stop_all()? {
            Outcome::Stopped => {
                drop(cgroup);
                return Ok(attempt.into_frozen());
            }
            // Another session of this program, perhaps of another mount, is about to release the
            // tasks. All tasks are resumed meanwhile.
            Outcome::Contended(error) => {
                // The kernel refuses, although no process traces the task. Either its tracer has
                // released it in between, or the refusal will not change.
                unexplained += u32::from(error.kind() != Kind::Busy);
                if deadline.is_over() || unexplained > UNEXPLAINED_MOST {
                    return Err(error);
                }
                drop(cgroup);
                drop(attempt);
                bound.check_reader()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Outcome::Vfork(waiting) => {
                drop(attempt);
                drop(cgroup);
                returned = behind_vfork(waiting, bound)?;
            }
        }
    }
}

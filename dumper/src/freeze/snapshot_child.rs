//! How a snapshot child is distinguished from a process of its tree.

use std::time::{Duration, Instant};

use crate::sys::clock;
use crate::sys::marks;
use crate::sys::pid::Pid;
use crate::sys::proc::process::{children, runs_this_program};
use crate::sys::proc::stat::{Stat, TICKS_PER_SECOND};
use crate::sys::proc::status::Fields;

/// The name (`comm`) that a copy-on-write child takes at birth. The injected stub holds the same
/// bytes. It is for people: any process can take it.
pub const SNAPSHOT_NAME: &str = "ckptfs-snapshot";

/// Whether `pid` is a copy-on-write snapshot child: it is marked, or it is what is left of one that
/// was killed.
///
/// The name decides nothing, because any process can take it: one that does is asked for its mark.
/// A child is marked before it takes the name.
pub fn is_snapshot_child(pid: Pid) -> bool {
    // A process that ends meanwhile belongs to no tree any more, so it is skipped as well.
    let Ok(stat) = Stat::read(&format!("/proc/{pid}/stat")) else { return true };
    stat.name == SNAPSHOT_NAME && (is_remains(&stat) || is_marked(pid, &stat))
}

/// Whether it is a zombie without an exit signal. The end of a program removes its marks, and its
/// children end with it.
fn is_remains(stat: &Stat) -> bool {
    stat.is_zombie_process() && stat.exit_signal() == 0
}

fn is_marked(pid: Pid, stat: &Stat) -> bool {
    let is_traced_here = || {
        let status = Fields::read(&format!("/proc/{pid}/status"));
        status.is_ok_and(|status| runs_this_program(status.number("TracerPid")))
    };
    // Without a place for marks the tracer and the exit signal must do.
    marks::is_marked(pid).unwrap_or_else(|_| stat.exit_signal() == 0 && is_traced_here())
}

/// The maximum age of a child without a name that still counts as being made. A child names itself
/// with its first call.
const YOUNG: Duration = Duration::from_secs(2);

/// Whether `pid` may be a snapshot child that has no name yet. A caller that lists processes while
/// trees are being stopped should wait a moment and ask again.
pub fn may_be_in_the_making(pid: Pid) -> bool {
    let Ok(stat) = Stat::read(&format!("/proc/{pid}/stat")) else { return false };
    let age = Duration::from_millis(clock::boot_ticks().saturating_sub(stat.started()) * 1000 / TICKS_PER_SECOND);
    let tracer = || Fields::read(&format!("/proc/{pid}/status")).map_or(0, |status| status.number("TracerPid"));
    stat.exit_signal() == 0 && age < YOUNG && runs_this_program(tracer())
}

/// How long a child may take to die after its daemon was killed. A loaded machine may take this
/// long to let it run once.
const DYING: Duration = Duration::from_millis(500);

/// Waits for snapshot children of `pids` that are dying because their daemon was killed: only a
/// child that has ended can be reaped. Call this before the tree is stopped.
pub fn wait_for_dying(pids: &[Pid]) {
    let end = Instant::now() + DYING;
    let is_dying = |child: &Pid| {
        let stat = Stat::read(&format!("/proc/{child}/stat"));
        let is_alive = |stat: Stat| stat.name == SNAPSHOT_NAME && stat.exit_signal() == 0 && !stat.is_ended_task();
        let tracer = || Fields::read(&format!("/proc/{child}/status")).map_or(0, |status| status.number("TracerPid"));
        stat.is_ok_and(is_alive) && tracer() == 0
    };
    for child in pids.iter().flat_map(|pid| children(*pid)) {
        while is_dying(&child) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Snapshot children of `pid` that have ended and were not reaped, because their daemon was killed
/// or could not have them reaped while the process was held.
pub fn left_behind(pid: Pid) -> Vec<Pid> {
    let is_left = |stat: Stat| stat.name == SNAPSHOT_NAME && is_remains(&stat);
    let is_it = |child: &Pid| Stat::read(&format!("/proc/{child}/stat")).is_ok_and(is_left);
    children(pid).into_iter().filter(is_it).collect()
}

//! A parent in vfork(2) cannot be stopped until its child has exec'd or ended, nor can a task that
//! sleeps uninterruptibly until it wakes. Nobody else is stopped meanwhile.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::freeze::bound::StopBound;
use crate::refusals::Refusals;
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc::process::children;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{Running, Stopped, Waited};
use crate::sys::{kcmp, proc};

/// How often a wait asks whether somebody still waits for the snapshot.
const READER_ASKED: Duration = Duration::from_millis(20);

/// How long most children need until they exec or end.
const MOMENT: Duration = Duration::from_millis(250);

/// The child that a task waits for in vfork(2), or in clone(2) with CLONE_VFORK as posix_spawn(3)
/// calls it. The task sleeps uninterruptibly in such a call, and the child still runs on its
/// memory.
pub fn vfork_child(tid: Pid) -> Option<Pid> {
    const CALLS: [i64; 3] = [libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3];
    let stat = Stat::read(&format!("/proc/{tid}/stat")).ok().filter(|stat| stat.state == 'D')?;
    let call = proc::read_text(&format!("/proc/{tid}/syscall")).ok()?;
    let call = call.split_ascii_whitespace().next()?.parse::<i64>().ok()?;
    let process = Fields::read(&format!("/proc/{tid}/status")).ok()?.number("Tgid") as Pid;
    // With CLONE_PARENT the child is a sibling.
    let mut children = children(process).into_iter().chain(children(stat.ppid()));
    let borrows = |child: &Pid| *child != process && kcmp::kcmp(tid, *child, kcmp::Kcmp::Vm, 0, 0).unwrap_or(false);
    if CALLS.contains(&call) { children.find(borrows) } else { None }
}

/// Whether the task sleeps uninterruptibly, in a read of a disk for example.
pub fn sleeps_uninterruptibly(tid: Pid) -> bool {
    Stat::read(&format!("/proc/{tid}/stat")).is_ok_and(|stat| stat.state == 'D')
}

/// Waits until the task returns from vfork(2), or wakes, and stops it there. `None` if it has
/// ended.
pub fn behind_wait(mut waiting: Running, bound: &StopBound) -> Result<Option<Stopped>> {
    let deadline = bound.deadline();
    loop {
        match waiting.wait(deadline.at_most(READER_ASKED))? {
            Waited::Stopped(stopped) => return Ok(Some(stopped)),
            Waited::Ended => return Ok(None),
            Waited::Running(still) if deadline.is_over() => {
                let tid = still.tid();
                return Err(vfork_child(tid).map_or_else(|| still.does_not_stop(), |child| waits(tid, child)));
            }
            Waited::Running(still) => waiting = still,
        }
        bound.check_reader()?;
    }
}

fn waits(tid: Pid, child: Pid) -> Error {
    Error::unsupported(format!("pid {tid}: it waits in vfork(2) for pid {child}"))
}

/// Refuses those of `tids` that wait in vfork(2), and still do so after a moment.
pub fn refuse_waiting(tids: impl Iterator<Item = Pid>, refusals: &mut Refusals) -> Result<()> {
    let mut waiting: Vec<(Pid, Pid)> = tids.filter_map(|tid| Some((tid, vfork_child(tid)?))).collect();
    let deadline = Deadline::after(MOMENT);
    while !waiting.is_empty() && !deadline.is_over() {
        std::thread::sleep(Duration::from_millis(1));
        waiting.retain(|(tid, child)| vfork_child(*tid) == Some(*child));
    }
    waiting.into_iter().try_for_each(|(tid, child)| refusals.refuse(waits(tid, child)))
}

//! A parent in vfork(2) cannot be stopped until its child has exec'd or ended.

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::proc::process::children;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{Running, Stopped, Waited};
use crate::sys::{kcmp, proc};

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

/// Waits until the task returns from vfork(2), and stops it there. `None` if it has ended.
pub fn behind_vfork(waiting: Running, deadline: Deadline) -> Result<Option<Stopped>> {
    match waiting.wait(deadline)? {
        Waited::Stopped(stopped) => Ok(Some(stopped)),
        Waited::Ended => Ok(None),
        Waited::Running(waiting) => {
            let tid = waiting.tid();
            let Some(child) = vfork_child(tid) else { return Err(waiting.does_not_stop()) };
            Err(Error::unsupported(format!("pid {tid}: it waits in vfork(2) for pid {child}")))
        }
    }
}

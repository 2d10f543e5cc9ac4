//! kcmp(2): which tasks share a kernel object.

use std::cmp::Ordering;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::error::{Doing, Result};
use crate::sys::pid::Pid;

/// What kcmp(2) can compare.
#[derive(Clone, Copy, Debug)]
pub enum Kcmp {
    /// Whether two descriptors are the same open file description.
    File = 0,
    /// The address spaces.
    Vm = 1,
    /// The descriptor tables.
    Files = 2,
    /// Root, cwd and umask.
    Fs = 3,
    /// The signal actions.
    Sighand = 4,
    /// Lists of semaphore operations to undo.
    SemaphoreUndo = 6,
}

/// Whether a task has a list of semaphore operations to undo, even an empty one. Compares it with
/// this thread, which drops its own list first. (A thread that starts another one has a list
/// again.)
pub fn has_undo_list(tid: Pid) -> Result<bool> {
    unshare(CloneFlags::CLONE_SYSVSEM).doing(|| "unshare(CLONE_SYSVSEM)")?;
    Ok(!kcmp(tid, nix::unistd::gettid().as_raw(), Kcmp::SemaphoreUndo, 0, 0)?)
}

/// kcmp(2): whether both are the same kernel object.
pub fn kcmp(a: Pid, b: Pid, what: Kcmp, in_a: u64, in_b: u64) -> Result<bool> {
    Ok(kcmp_order(a, b, what, in_a, in_b)? == Ordering::Equal)
}

/// kcmp(2): an order of kernel objects. It stays the same while the objects live and has no other
/// meaning.
pub fn kcmp_order(a: Pid, b: Pid, what: Kcmp, in_a: u64, in_b: u64) -> Result<Ordering> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::syscall(libc::SYS_kcmp, a, b, what as i32, in_a, in_b) };
    match Errno::result(got).doing(|| format!("kcmp {what:?} of {a} and {b}"))? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        _ => Ok(Ordering::Greater),
    }
}

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

/// An entry of an epoll instance.
#[derive(Clone, Copy, Debug)]
pub struct EpollEntry {
    /// A task with a descriptor of the instance.
    pub task: Pid,
    /// The number of that.
    pub epoll: i32,
    /// The number with which the entry was added.
    pub number: i32,
    /// How many entries with that number are before it in `fdinfo`.
    pub before: u32,
}

/// kcmp(2) with KCMP_EPOLL_TFD: the order of the open file of a descriptor and of that of an entry,
/// like [`kcmp_order`] with [`Kcmp::File`]. The kernel looks through the entries for it.
pub fn epoll_order(task: Pid, descriptor: i32, entry: EpollEntry) -> Result<Ordering> {
    const KCMP_EPOLL_TFD: i32 = 7;
    /// struct kcmp_epoll_slot of include/uapi/linux/kcmp.h.
    #[repr(C)]
    struct Slot {
        efd: u32,
        tfd: u32,
        toff: u32,
    }
    let EpollEntry { task: of, epoll, number, before } = entry;
    let slot = Slot { efd: epoll.cast_unsigned(), tfd: number.cast_unsigned(), toff: before };
    // SAFETY: the kernel reads `slot`, a live local, and no other memory.
    let got = unsafe { libc::syscall(libc::SYS_kcmp, task, of, KCMP_EPOLL_TFD, descriptor, &raw const slot) };
    ordering(got, || format!("kcmp of fd {descriptor} of {task} and {entry:?}"))
}

/// kcmp(2): an order of kernel objects. It stays the same while the objects live and has no other
/// meaning.
pub fn kcmp_order(a: Pid, b: Pid, what: Kcmp, in_a: u64, in_b: u64) -> Result<Ordering> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::syscall(libc::SYS_kcmp, a, b, what as i32, in_a, in_b) };
    ordering(got, || format!("kcmp {what:?} of {a} and {b}"))
}

fn ordering(got: i64, doing: impl FnOnce() -> String) -> Result<Ordering> {
    Ok(match Errno::result(got).doing(doing)? {
        0 => Ordering::Equal,
        1 => Ordering::Less,
        _ => Ordering::Greater,
    })
}

//! Scheduling attributes of a thread: sched_setattr(2), sched_setaffinity(2), ioprio_set(2).

use nix::errno::Errno;

use crate::error::{Doing, Result};
use crate::sys::pid::Pid;

/// struct sched_attr, include/uapi/linux/sched/types.h, as of size 56.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Length of this struct.
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20..19.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// ns, SCHED_DEADLINE (and a custom slice of fair tasks).
    pub runtime: u64,
    /// ns.
    pub deadline: u64,
    /// ns.
    pub period: u64,
    /// Utilization clamps.
    pub util_min: u32,
    /// Utilization clamps.
    pub util_max: u32,
}

/// sched_getattr(2).
pub fn sched_attr(tid: Pid) -> Result<SchedAttr> {
    let mut attr = SchedAttr::default();
    // SAFETY: the struct is live and its size is passed.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attr, size_of::<SchedAttr>(), 0) };
    Errno::result(got).map(|_| attr).doing(|| format!("task {tid}: sched_getattr"))
}

/// sched_setattr(2).
pub fn set_sched_attr(tid: Pid, attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: the struct is live and holds its own size.
    let got = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attr, 0) };
    Errno::result(got).map(drop).doing(|| format!("task {tid}: sched_setattr"))
}

/// setpriority(2) of one thread: the only way to set a nice value under SCHED_IDLE.
pub fn set_nice(tid: Pid, nice: i32) -> Result<()> {
    // SAFETY: no memory is passed. 0 is PRIO_PROCESS (which means a thread).
    let got = unsafe { libc::syscall(libc::SYS_setpriority, 0, tid, nice) };
    Errno::result(got).map(drop).doing(|| format!("task {tid}: setpriority"))
}

/// Lets this thread sleep for the time that it asks for, and not for up to 50 us more
/// (PR_SET_TIMERSLACK(2const)). Processes that it makes would inherit that.
pub fn sleep_exactly() {
    // A failure costs some microseconds for each wait.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// sched_getaffinity(2): the mask in the kernel's form.
pub fn affinity(tid: Pid) -> Result<Vec<u8>> {
    let mut mask = vec![0_u8; 1024];
    // SAFETY: the buffer is live and its length is passed.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, mask.len(), mask.as_mut_ptr()) };
    Errno::result(got).doing(|| format!("task {tid}: sched_getaffinity"))?;
    mask.truncate(got as usize);
    Ok(mask)
}

/// sched_setaffinity(2).
pub fn set_affinity(tid: Pid, mask: &[u8]) -> Result<()> {
    // SAFETY: the buffer is live and its length is passed.
    let got = unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, mask.len(), mask.as_ptr()) };
    Errno::result(got).map(drop).doing(|| format!("task {tid}: sched_setaffinity"))
}

/// ioprio_get(2) of one thread.
pub fn ioprio(tid: Pid) -> Result<i32> {
    // SAFETY: no memory is passed. 1 is IOPRIO_WHO_PROCESS (which means a thread).
    let got = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, tid) };
    Errno::result(got).map(|got| got as i32).doing(|| format!("task {tid}: ioprio_get"))
}

/// ioprio_set(2) of one thread.
pub fn set_ioprio(tid: Pid, value: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, tid, value) };
    Errno::result(got).map(drop).doing(|| format!("task {tid}: ioprio_set"))
}

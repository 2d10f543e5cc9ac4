//! System calls about another task that are neither ptrace nor descriptors.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::pid::Pid;
use crate::sys::proc::TICKS_PER_SECOND;

/// errno.
pub(super) fn last() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// waitpid(tid, __WALL | __WNOTHREAD | WNOHANG): the raw status, `None` if nothing happened yet.
///
/// `__WNOTHREAD` because another tracer thread of this daemon must not have its events stolen.
pub fn wait_stopped(tid: Pid) -> std::result::Result<Option<i32>, i32> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let got = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
    match got {
        -1 => Err(last()),
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

/// Waits until `pid`, which has been killed, has ended and is reaped (as far as this thread has to), at most `patience`: the raw
/// status.
///
/// Polls: a sleeping waitpid(2) is not woken when another thread of this daemon, its tracer, reaps it in our place
/// (kernel/exit.c, `child_wait_callback`), and would sleep for ever.
///
/// # Errors
/// ECHILD: nothing of it is ours (any more); ETIMEDOUT: it does not end.
pub fn wait_ended(pid: Pid, patience: Duration) -> std::result::Result<i32, i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = wait_stopped(pid)?
            && (libc::WIFEXITED(status) || libc::WIFSIGNALED(status))
        {
            return Ok(status);
        }
        match begun.elapsed() {
            elapsed if elapsed >= patience => return Err(libc::ETIMEDOUT),
            elapsed if elapsed < Duration::from_micros(200) => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// As [`wait_ended`], of a child of any thread of this process.
pub fn reap(pid: Pid, patience: Duration) -> std::result::Result<i32, i32> {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live local.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
            -1 => return Err(last()),
            0 if begun.elapsed() >= patience => return Err(libc::ETIMEDOUT),
            0 => std::thread::sleep(Duration::from_micros(100)),
            _ if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) => return Ok(status),
            _ => {}
        }
    }
}

/// PR_SET_CHILD_SUBREAPER of this process; whether it was one.
pub fn set_subreaper(on: bool) -> bool {
    let mut was = 0_i32;
    // SAFETY: `was` is a live local; the second call passes no memory.
    unsafe {
        libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut was, 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0);
    }
    was != 0
}

/// kill(2).
pub fn kill(pid: Pid, signal: i32) -> std::result::Result<(), i32> {
    // SAFETY: no memory is passed.
    if unsafe { libc::kill(pid, signal) } == -1 { Err(last()) } else { Ok(()) }
}

/// get_robust_list(2): head and length.
pub fn robust_list(tid: Pid) -> Result<(u64, u64)> {
    let (mut head, mut len) = (0_u64, 0_u64);
    // SAFETY: both pointers are live locals of pointer width.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: get_robust_list"))) } else { Ok((head, len)) }
}

/// What kcmp(2) can compare.
#[derive(Clone, Copy, Debug)]
pub enum Kcmp {
    /// Two descriptors: the same open file description?
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

/// Whether a task has a list of semaphore operations to undo, be it empty: compared with this thread, which gives up its own. (A thread
/// that starts another one has a list again.)
pub fn has_undo_list(tid: Pid) -> Result<bool> {
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_SYSVSEM).map_err(|errno| Error::os("unshare(CLONE_SYSVSEM)", errno as i32))?;
    Ok(!kcmp(tid, nix::unistd::gettid().as_raw(), Kcmp::SemaphoreUndo, 0, 0)?)
}

/// kcmp(2): whether both are the same kernel object.
pub fn kcmp(a: Pid, b: Pid, what: Kcmp, in_a: u64, in_b: u64) -> Result<bool> {
    Ok(kcmp_order(a, b, what, in_a, in_b)? == Ordering::Equal)
}

/// kcmp(2): an order of kernel objects that stands still while they live; it says nothing else.
pub fn kcmp_order(a: Pid, b: Pid, what: Kcmp, in_a: u64, in_b: u64) -> Result<Ordering> {
    // SAFETY: no memory is passed.
    match unsafe { libc::syscall(libc::SYS_kcmp, a, b, what as i32, in_a, in_b) } {
        -1 => Err(Error::last_os(format_args!("kcmp {what:?} of {a} and {b}"))),
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        _ => Ok(Ordering::Greater),
    }
}

/// struct sched_attr, include/uapi/linux/sched/types.h, as of size 56.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Of this struct.
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
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: sched_getattr"))) } else { Ok(attr) }
}

/// sched_setattr(2).
pub fn set_sched_attr(tid: Pid, attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: the struct is live and says its size.
    let got = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attr, 0) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: sched_setattr"))) } else { Ok(()) }
}

/// setpriority(2) of one thread: the only way to a nice value under SCHED_IDLE.
pub fn set_nice(tid: Pid, nice: i32) -> Result<()> {
    // SAFETY: no memory is passed. 0 is PRIO_PROCESS (which means a thread).
    let got = unsafe { libc::syscall(libc::SYS_setpriority, 0, tid, nice) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: setpriority"))) } else { Ok(()) }
}

/// sched_getaffinity(2): the mask as the kernel gives it.
pub fn affinity(tid: Pid) -> Result<Vec<u8>> {
    let mut mask = vec![0_u8; 1024];
    // SAFETY: the buffer is live and its length is passed.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, mask.len(), mask.as_mut_ptr()) };
    if got == -1 {
        return Err(Error::last_os(format_args!("task {tid}: sched_getaffinity")));
    }
    mask.truncate(got as usize);
    Ok(mask)
}

/// sched_setaffinity(2).
pub fn set_affinity(tid: Pid, mask: &[u8]) -> Result<()> {
    // SAFETY: the buffer is live and its length is passed.
    let got = unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, mask.len(), mask.as_ptr()) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: sched_setaffinity"))) } else { Ok(()) }
}

/// ioprio_get(2) of one thread.
pub fn ioprio(tid: Pid) -> Result<i32> {
    // SAFETY: no memory is passed. 1 is IOPRIO_WHO_PROCESS (which means a thread).
    let got = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, tid) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: ioprio_get"))) } else { Ok(got as i32) }
}

/// ioprio_set(2) of one thread.
pub fn set_ioprio(tid: Pid, value: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, tid, value) };
    if got == -1 { Err(Error::last_os(format_args!("task {tid}: ioprio_set"))) } else { Ok(()) }
}

/// Ticks since boot, in the unit of a process's start time.
pub fn boot_ticks() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME) / (1_000_000_000 / TICKS_PER_SECOND)
}

/// Nanoseconds of a clock.
pub fn clock_ns(clock: i32) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live local.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

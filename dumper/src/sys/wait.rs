//! System calls about another task that are neither ptrace nor descriptors.

use std::time::{Duration, Instant};

use crate::sys::pid::Pid;

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

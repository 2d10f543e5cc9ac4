//! Waiting for tasks: waitpid(2), and kill(2).

use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::clock::{Deadline, Pauses};
use crate::sys::pid::Pid;
use crate::sys::signal;

/// What [`poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing has happened to the task since the last time.
    Unchanged,
    /// The raw status of a task that has stopped or ended.
    Status(i32),
    /// The task is neither a child nor a tracee of this thread (any more): ECHILD. This is a value
    /// and not an error, because every detached task returns it.
    NotOurs,
}

/// waitpid(2) with `__WALL | __WNOTHREAD | WNOHANG`: asks about one task and does not sleep.
///
/// `__WNOTHREAD`, because it must not take the events of another tracer thread of this daemon.
pub fn poll(tid: Pid) -> Result<Polled> {
    waitpid(tid, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG)
}

fn waitpid(tid: Pid, flags: i32) -> Result<Polled> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    match Errno::result(unsafe { libc::waitpid(tid, &raw mut status, flags) }) {
        Ok(0) => Ok(Polled::Unchanged),
        Ok(_) => Ok(Polled::Status(status)),
        Err(Errno::ECHILD) => Ok(Polled::NotOurs),
        failed => failed.map(|_| Polled::Unchanged).doing(|| format!("task {tid}: waitpid")),
    }
}

/// Waits until `pid`, which has been killed, has ended and is reaped (as far as this thread must do
/// that). Returns the raw status, or `None` if the task is not this thread's (any more).
///
/// It polls, because a sleeping waitpid(2) is not woken when another thread of this daemon, the
/// task's tracer, reaps it (kernel/exit.c, `child_wait_callback`), and would sleep for ever.
///
/// # Errors
/// ETIMEDOUT: it does not end within `limit`.
pub fn wait_ended(pid: Pid, limit: Duration) -> Result<Option<i32>> {
    let (pauses, deadline) = (Pauses::begin(), Deadline::after(limit));
    loop {
        // Asked before the poll: this thread may have had no processor until the time was up.
        let is_over = deadline.is_over();
        match poll(pid)? {
            Polled::Status(status) if has_ended(status) => return Ok(Some(status)),
            Polled::NotOurs => return Ok(None),
            Polled::Status(_) | Polled::Unchanged => {}
        }
        if is_over {
            return Err(too_slow(pid));
        }
        pauses.pause();
    }
}

/// Like [`wait_ended`], for a child of any thread of this process.
pub fn reap(pid: Pid, limit: Duration) -> Result<Option<i32>> {
    let deadline = Deadline::after(limit);
    loop {
        match waitpid(pid, libc::__WALL | libc::WNOHANG)? {
            Polled::Status(status) if has_ended(status) => return Ok(Some(status)),
            Polled::Status(_) => {}
            Polled::NotOurs => return Ok(None),
            Polled::Unchanged if deadline.sleep(Duration::from_micros(100)) => {}
            Polled::Unchanged => return Err(too_slow(pid)),
        }
    }
}

fn has_ended(status: i32) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

/// The error of a wait for the end of `pid` that took too long.
pub(super) fn too_slow(pid: Pid) -> Error {
    Error::os(format_args!("pid {pid}: waiting for its end"), libc::ETIMEDOUT)
}

/// PR_SET_CHILD_SUBREAPER of this process. Returns the former value.
pub fn set_subreaper(on: bool) -> bool {
    let mut was = 0_i32;
    // SAFETY: `was` is a live local. The second call passes no memory.
    unsafe {
        libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut was, 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0);
    }
    was != 0
}

/// kill(2).
pub fn kill(pid: Pid, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::kill(pid, signal) })
        .map(drop)
        .doing(|| format!("pid {pid}: sending {}", signal::name(signal)))
}

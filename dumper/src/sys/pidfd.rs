//! Pidfds: names of processes that are never used again for another one.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::signal;
use crate::sys::wait;

/// A pidfd: names a process without the danger of pid reuse.
#[derive(Debug)]
pub struct PidFd {
    pid: Pid,
    fd: OwnedFd,
}

impl PidFd {
    /// pidfd_open(2) of a process (not a thread).
    ///
    /// # Errors
    /// [`crate::error::Kind::NoProcess`]: there is no such process.
    pub fn open(pid: Pid) -> Result<Self> {
        Self::named(pid, open(pid, 0))
    }

    /// The same process by another descriptor.
    pub fn try_clone(&self) -> Result<Self> {
        let doing = || format!("pid {}: duplicating a pidfd", self.pid);
        Ok(Self { pid: self.pid, fd: self.fd.try_clone().doing(doing)? })
    }

    /// pidfd_open(2) of any thread (PIDFD_THREAD, since Linux 6.9). Descriptors are then pulled
    /// from the thread's own table.
    pub fn of_thread(tid: Pid) -> Result<Self> {
        const PIDFD_THREAD: i32 = libc::O_EXCL;
        match open(tid, PIDFD_THREAD) {
            // An older kernel names only a thread group's leader.
            Err(Errno::EINVAL) => Self::open(tid),
            opened => Self::named(tid, opened),
        }
    }

    fn named(pid: Pid, opened: nix::Result<OwnedFd>) -> Result<Self> {
        let fd = opened.doing(|| format!("pid {pid}: pidfd_open")).map_err(Error::esrch_is_gone)?;
        Ok(Self { pid, fd })
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Duplicates descriptor `fd` of the process into this one (close-on-exec).
    pub fn pull(&self, fd: i32) -> Result<OwnedFd> {
        // SAFETY: no memory is passed; a descriptor returned is ours alone.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), fd, 0) };
        let got = Errno::result(got).doing(|| format!("pid {} fd {fd}: pidfd_getfd", self.pid))?;
        // SAFETY: it was just made, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
    }

    /// Whether the process has ended with all its threads, reaped or not. It then polls readable
    /// (pidfd_open(2)).
    pub fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live struct.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }

    /// pidfd_send_signal(2).
    pub fn kill(&self, signal: i32) -> Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: no memory is passed.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0) };
        Errno::result(got).map(drop).doing(|| format!("pid {}: sending {}", self.pid, signal::name(signal)))
    }

    /// Waits until a killed process has ended and reaps it, if it is a child or tracee of this
    /// thread (or of any thread of this daemon). Returns false if it is not (any more). Polls for
    /// the reason that `wait::wait_ended` gives.
    ///
    /// # Errors
    /// ETIMEDOUT: it does not end within `limit`.
    pub fn wait_ended(&self, this_thread: bool, limit: Duration) -> Result<bool> {
        let deadline = Deadline::after(limit);
        let children = if this_thread { libc::__WALL | libc::__WNOTHREAD } else { libc::__WALL };
        let flags = libc::WEXITED | libc::WNOHANG | children;
        loop {
            // SAFETY: all-zero is a valid value of this plain struct.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is a live local.
            let got = unsafe { libc::waitid(libc::P_PIDFD, self.fd.as_raw_fd().cast_unsigned(), &raw mut info, flags) };
            match Errno::result(got) {
                Err(Errno::ECHILD) => return Ok(false),
                got => got.doing(|| format!("pid {}: waitid", self.pid))?,
            };
            // A ptrace-stop is reported as well.
            if info.si_signo != 0 && [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
                return Ok(true);
            }
            if !deadline.sleep(Duration::from_micros(100)) {
                return Err(wait::too_slow(self.pid));
            }
        }
    }
}

fn open(pid: Pid, flags: i32) -> nix::Result<OwnedFd> {
    // SAFETY: no memory is passed; a descriptor returned is ours alone.
    let got = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })?;
    // SAFETY: it was just made, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
}

/// Reaps children of this thread as they end, until none is left.
///
/// It uses poll(2) and not a sleeping waitpid(2), which would take the ptrace-stops of a child that
/// another thread of this daemon traces (kernel/exit.c, `wait_consider_task`: a tracer in the
/// parent's own thread group).
pub fn reap(mut children: Vec<PidFd>) {
    while !children.is_empty() {
        let poll = |child: &PidFd| libc::pollfd { fd: child.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polls: Vec<libc::pollfd> = children.iter().map(poll).collect();
        // SAFETY: a live array and its length.
        if unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) } < 0 {
            continue;
        }
        let mut ended = polls.iter().map(|poll| poll.revents != 0);
        children.retain(|child| {
            if !ended.next().unwrap_or(false) {
                return true;
            }
            let mut status = 0;
            // SAFETY: `status` is a live local.
            match unsafe { libc::waitpid(child.pid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
                // A tracer thread of this daemon held the process when it was killed. That thread
                // must release it first.
                0 => {
                    std::thread::sleep(Duration::from_millis(2));
                    return true;
                }
                -1 => log::info!("pid {}: ended", child.pid),
                _ => log::info!("pid {}: ended with status {status:#x}", child.pid),
            }
            false
        });
    }
}

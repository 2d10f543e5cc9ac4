//! Pidfds: names of processes that are never used again for another one.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::wait;

/// A pidfd: names a process without the danger of pid reuse.
#[derive(Debug)]
pub struct PidFd {
    pid: Pid,
    fd: OwnedFd,
}

impl PidFd {
    /// pidfd_open(2) of a process (not a thread).
    pub fn open(pid: Pid) -> Result<Self> {
        Self::with(pid, 0)
    }

    /// pidfd_open(2) of any thread (PIDFD_THREAD, since Linux 6.9): what is pulled is from its own table.
    pub fn of_thread(tid: Pid) -> Result<Self> {
        const PIDFD_THREAD: i32 = libc::O_EXCL;
        match Self::with(tid, PIDFD_THREAD) {
            // A kernel without it: right for whoever leads its process.
            Err(error) if error.kind() == Kind::System(libc::EINVAL) => Self::open(tid),
            done => done,
        }
    }

    fn with(pid: Pid, flags: i32) -> Result<Self> {
        // SAFETY: no memory is passed; a descriptor returned is ours alone.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
        if got == -1 {
            let error = Error::last_os(format_args!("pid {pid}: pidfd_open"));
            return Err(match error.kind() {
                Kind::System(libc::ESRCH) => error.kind_is(Kind::NoProcess),
                _ => error,
            });
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self { pid, fd: unsafe { OwnedFd::from_raw_fd(got as i32) } })
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Duplicates descriptor `fd` of the process into this one (close-on-exec).
    pub fn pull(&self, fd: i32) -> Result<OwnedFd> {
        // SAFETY: no memory is passed; a descriptor returned is ours alone.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), fd, 0) };
        if got == -1 {
            return Err(Error::last_os(format_args!("pid {} fd {fd}: pidfd_getfd", self.pid)));
        }
        // SAFETY: just made, owned by nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
    }
}

impl PidFd {
    /// Whether the process has ended, all its threads, be it reaped or not (pidfd_open(2): it polls readable then).
    pub fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live struct.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }

    /// pidfd_send_signal(2).
    pub fn kill(&self, signal: i32) -> std::result::Result<(), i32> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: no memory is passed.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0) };
        if got == -1 { Err(wait::last()) } else { Ok(()) }
    }

    /// Waits until it, which has been killed, has ended and is reaped, as far as that is for us to do: for this thread alone, or for any
    /// of this process. At most `patience`; polls, as [`wait::wait_ended`] does and says why.
    ///
    /// # Errors
    /// ECHILD: nothing of it is ours (any more); ETIMEDOUT: it does not end.
    pub fn wait_ended(&self, this_thread: bool, patience: Duration) -> std::result::Result<(), i32> {
        let begun = Instant::now();
        let whose = if this_thread { libc::__WALL | libc::__WNOTHREAD } else { libc::__WALL };
        let flags = libc::WEXITED | libc::WNOHANG | whose;
        loop {
            // SAFETY: all-zero is a valid value of this plain struct.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is a live local.
            if unsafe { libc::waitid(libc::P_PIDFD, self.fd.as_raw_fd().cast_unsigned(), &raw mut info, flags) } == -1 {
                return Err(wait::last());
            }
            // A ptrace-stop is told of as well.
            if info.si_signo != 0 && [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
                return Ok(());
            }
            if begun.elapsed() >= patience {
                return Err(libc::ETIMEDOUT);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Reaps children of this thread as they end, until none is left.
///
/// By poll(2) and not by a sleeping waitpid(2): that would steal the ptrace-stops of a child that another thread of this
/// daemon traces (kernel/exit.c, `wait_consider_task`: a tracer in the parent's own thread group).
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
                // Killed while one of our tracer threads held it: that thread has to let go first.
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

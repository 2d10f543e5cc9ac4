//! Small processes that undo something if this daemon is killed. Each is a copy of this process
//! that holds nothing of it but the read end of a pipe: it reads the end of the pipe when this
//! daemon has ended.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid};

use crate::error::{Doing, Result};
use crate::sys::wait;

/// How long a watchdog may take for what it undoes.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A watchdog. Drop closes the pipe, and waits until the watchdog has done what it does then.
#[derive(Debug)]
pub(super) struct Watchdog {
    pipe: Option<File>,
    pid: Pid,
}

impl Watchdog {
    /// Starts a watchdog that calls `watch` with the read end of the pipe, and then ends. It keeps
    /// `file` open. Its `name` in `ps` should differ from the daemon's, so that killing the daemon
    /// by name does not kill the watchdog.
    ///
    /// # Safety
    /// `watch` runs in a copy of this thread alone: it may make only raw system calls, which need
    /// no lock that another thread may have held at the fork.
    pub(super) unsafe fn start(name: &CStr, file: Option<RawFd>, watch: impl FnOnce(RawFd)) -> nix::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child makes only raw system calls on integers and live locals, and so does
        // `watch`, by the caller's promise.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => {
                let pipe = read.as_raw_fd();
                stand_alone(name, pipe, file.unwrap_or(pipe));
                watch(pipe);
                loop {
                    // SAFETY: no memory is passed.
                    unsafe { libc::syscall(libc::SYS_exit_group, 0) };
                }
            }
            ForkResult::Parent { child } => Ok(Self { pipe: Some(File::from(write)), pid: child }),
        }
    }

    /// Writes to the pipe.
    pub(super) fn tell(&self, bytes: &[u8], doing: impl FnOnce() -> String) -> Result<()> {
        let mut pipe = self.pipe.as_ref();
        pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(bytes)).doing(doing)
    }

    /// The write end of the pipe.
    pub(super) fn pipe(&self) -> RawFd {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        // The watchdog reads the end of the pipe and ends. Another thread may have reaped it
        // already, which does no harm.
        if let Err(error) = wait::reap(self.pid.as_raw(), ENDS_WITHIN) {
            log::warn!("a watchdog of this daemon: {error}");
        }
    }
}

/// Reads one message of the pipe. Returns false at its end.
pub(super) fn hear(pipe: RawFd, message: &mut [u8]) -> bool {
    // SAFETY: the slice is live.
    let got = unsafe { libc::syscall(libc::SYS_read, pipe, message.as_mut_ptr(), message.len()) };
    usize::try_from(got) == Ok(message.len())
}

/// Makes this forked child independent of the daemon, apart from two descriptors.
fn stand_alone(name: &CStr, pipe: RawFd, file: RawFd) {
    let (low, high) = (pipe.min(file), pipe.max(file));
    let all = u64::MAX;
    // SAFETY: raw calls on integers and live locals; no library state is touched in this forked
    // child.
    unsafe {
        // An open descriptor here would delay the end of something else: the device of the mount, a
        // lock, a pipe of another watchdog.
        for (from, upto) in [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
            if from <= upto {
                libc::syscall(libc::SYS_close_range, from, upto, 0);
            }
        }
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8);
        libc::syscall(libc::SYS_setsid);
        libc::syscall(libc::SYS_chdir, c"/".as_ptr());
    }
}

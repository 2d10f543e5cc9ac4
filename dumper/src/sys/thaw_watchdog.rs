//! A small process that thaws a cgroup if this daemon is killed while the cgroup is frozen.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

use crate::error::{Doing, Result};

/// Its name in `ps`. It differs from the daemon's, so that killing the daemon by name does not kill
/// the watchdog.
const NAME: &CStr = c"ckptfs-thaw";

/// Writes "0" to a file if this daemon ends while the watchdog is armed. Drop ends the watchdog.
#[derive(Debug)]
pub struct ThawWatchdog {
    /// The watchdog reads the other end. When this daemon ends, the watchdog reads the end of the
    /// pipe.
    pipe: Option<File>,
    pid: Pid,
}

impl ThawWatchdog {
    /// Starts the watchdog, not armed. It is a copy of this process's memory, so start it early in
    /// the life of the program.
    pub fn start(file: &Path) -> Result<Self> {
        let doing = || format!("starting the watchdog of {}", file.display());
        let target = File::options().write(true).open(file).doing(doing)?;
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).doing(doing)?;
        // SAFETY: the child makes only raw system calls on integers and live locals. No lock that
        // another thread held matters.
        match unsafe { nix::unistd::fork() }.doing(doing)? {
            ForkResult::Child => watch(read.as_raw_fd(), target.as_raw_fd()),
            ForkResult::Parent { child } => Ok(Self { pipe: Some(File::from(write)), pid: child }),
        }
    }

    /// Arms or disarms the watchdog.
    pub fn arm(&self, armed: bool) -> Result<()> {
        let mut pipe = self.pipe.as_ref();
        pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(&[u8::from(armed)])).doing(|| "arming the watchdog")
    }
}

impl Drop for ThawWatchdog {
    fn drop(&mut self) {
        self.pipe = None;
        // The watchdog reads the end of the pipe and exits. Another thread may have reaped it
        // already, which does no harm.
        while waitpid(self.pid, None) == Err(nix::Error::EINTR) {}
    }
}

fn watch(pipe: RawFd, file: RawFd) -> ! {
    let (low, high) = (pipe.min(file), pipe.max(file));
    let all = u64::MAX;
    let mut armed = 0_u8;
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
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8);
        libc::syscall(libc::SYS_setsid);
        libc::syscall(libc::SYS_chdir, c"/".as_ptr());
        while libc::syscall(libc::SYS_read, pipe, &raw mut armed, 1) == 1 {}
        if armed == 1 {
            libc::syscall(libc::SYS_write, file, c"0".as_ptr(), 1);
        }
        libc::syscall(libc::SYS_exit_group, 0);
        std::hint::unreachable_unchecked()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_if_and_only_if_the_watchdog_was_armed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = || std::fs::read_to_string(file.path()).unwrap();
        for (steps, left) in [(&[][..], "1"), (&[true, false], "1"), (&[true, false, true], "0")] {
            std::fs::write(file.path(), "1").unwrap();
            let watchdog = ThawWatchdog::start(file.path()).unwrap();
            steps.iter().for_each(|armed| watchdog.arm(*armed).unwrap());
            drop(watchdog);
            assert_eq!(text(), left, "{steps:?}");
        }
    }
}

//! A process that outlives this one by a moment, to put something right if this one is killed.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

use crate::error::{Doing, Result};

/// Its name in `ps`: another than the daemon's, so that who kills that by its name does not kill
/// this.
const NAME: &CStr = c"ckptfs-thaw";

/// Writes "0" to a file when whoever started it ends while the watcher is armed. Dropped, it ends.
#[derive(Debug)]
pub struct ThawWatchdog {
    /// The other end is read by the watcher alone: its end is ours.
    pipe: Option<File>,
    pid: Pid,
}

impl ThawWatchdog {
    /// Starts it, not armed. The earlier in the life of a program the better: it is a copy of its
    /// memory.
    pub fn start(file: &Path) -> Result<Self> {
        let doing = || format!("starting the watcher of {}", file.display());
        let target = File::options().write(true).open(file).doing(doing)?;
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).doing(doing)?;
        // SAFETY: the child makes nothing but raw system calls on integers and live locals; no lock
        // that another thread held matters.
        match unsafe { nix::unistd::fork() }.doing(doing)? {
            ForkResult::Child => watch(read.as_raw_fd(), target.as_raw_fd()),
            ForkResult::Parent { child } => Ok(Self { pipe: Some(File::from(write)), pid: child }),
        }
    }

    /// From now on the file is to be written to, or is not.
    pub fn arm(&self, armed: bool) -> Result<()> {
        let mut pipe = self.pipe.as_ref();
        pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(&[u8::from(armed)])).doing(|| "telling the watcher")
    }
}

impl Drop for ThawWatchdog {
    fn drop(&mut self) {
        self.pipe = None;
        // It reads the end of the pipe and is gone; whoever was quicker to reap it has done the
        // same.
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
        // Nobody's end is to be held up by a descriptor here: the device of the mount, a lock, a
        // pipe of another watcher.
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
    fn what_was_armed_is_put_right_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = || std::fs::read_to_string(file.path()).unwrap();
        for (steps, left) in [(&[][..], "1"), (&[true, false], "1"), (&[true, false, true], "0")] {
            std::fs::write(file.path(), "1").unwrap();
            let watcher = ThawWatchdog::start(file.path()).unwrap();
            steps.iter().for_each(|armed| watcher.arm(*armed).unwrap());
            drop(watcher);
            assert_eq!(text(), left, "{steps:?}");
        }
    }
}

//! A small process that thaws a cgroup if this daemon is killed while the cgroup is frozen.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::sys::watchdog::{Watchdog, hear};

/// Its name in `ps`.
const NAME: &CStr = c"ckptfs-thaw";

/// Writes "0" to a file if this daemon ends while the watchdog is armed. Drop ends the watchdog.
#[derive(Debug)]
pub struct ThawWatchdog(Watchdog);

impl ThawWatchdog {
    /// Starts the watchdog, not armed. It is a copy of this process's memory, so start it early in
    /// the life of the program.
    pub fn start(file: &Path) -> Result<Self> {
        let doing = || format!("starting the watchdog of {}", file.display());
        let target = File::options().write(true).open(file).doing(doing)?;
        let file = target.as_raw_fd();
        let watch = |pipe| {
            let mut armed = [0];
            while hear(pipe, &mut armed) {}
            if armed == [1] {
                // SAFETY: a live string of one byte.
                unsafe { libc::syscall(libc::SYS_write, file, c"0".as_ptr(), 1) };
            }
        };
        // SAFETY: `watch` makes only raw system calls.
        unsafe { Watchdog::start(NAME, Some(file), watch) }.doing(doing).map(Self)
    }

    /// Arms or disarms the watchdog.
    pub fn arm(&self, armed: bool) -> Result<()> {
        self.0.tell(&[u8::from(armed)], || "arming the watchdog".to_owned())
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

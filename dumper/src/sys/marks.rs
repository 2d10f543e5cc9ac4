//! Processes that this program has made, marked so that every program of root can tell them from
//! others. A process can take any name, but not a mark.
//!
//! A mark is a lock on one byte of a file that only root may open: the byte with the number of the
//! process (fcntl(2), "Open file description locks"). The kernel removes the marks of a program
//! that has ended.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Doing, Error, Result};
use crate::sys::pid::Pid;

/// The file with the marks. It has no contents.
const FILE: &str = "/run/ckptfs.marks";

/// Marks that are removed together at the latest. A clone shares them.
#[derive(Clone, Debug)]
pub struct Marks(Arc<File>);

/// The mark of one process. Drop removes it.
#[derive(Debug)]
pub struct Mark {
    marks: Marks,
    pid: Pid,
}

impl Marks {
    /// No process is marked yet.
    pub fn new() -> Result<Marks> {
        open(true).map(|file| Marks(Arc::new(file)))
    }

    /// Marks the process `pid`, which this program has just made.
    pub fn mark(&self, pid: Pid) -> Result<Mark> {
        let doing = || format!("marking pid {pid}");
        fcntl(&*self.0, FcntlArg::F_OFD_SETLK(&byte(pid, libc::F_WRLCK))).doing(doing)?;
        Ok(Mark { marks: self.clone(), pid })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // This cannot fail, and the kernel removes the lock with the file.
        let _ = fcntl(&*self.marks.0, FcntlArg::F_OFD_SETLK(&byte(self.pid, libc::F_UNLCK)));
    }
}

/// Whether `pid` is marked, by this program or another.
///
/// # Errors
/// The marks cannot be read: /run is not there, or not writable.
pub fn is_marked(pid: Pid) -> Result<bool> {
    let file = match open(false) {
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(false),
        opened => opened?,
    };
    let mut lock = byte(pid, libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).doing(|| format!("looking for the mark of pid {pid}"))?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

fn byte(pid: Pid, kind: i32) -> libc::flock {
    let whence = libc::SEEK_SET as libc::c_short;
    libc::flock { l_type: kind as libc::c_short, l_whence: whence, l_start: i64::from(pid), l_len: 1, l_pid: 0 }
}

fn open(make: bool) -> Result<File> {
    let doing = || format!("opening {FILE}");
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = File::options();
    let file = options.read(true).write(true).create(make).mode(0o600).custom_flags(flags).open(FILE).doing(doing)?;
    let facts = file.metadata().doing(doing)?;
    let is_roots = facts.is_file() && facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o077 == 0;
    if is_roots { Ok(file) } else { Err(Error::os(format_args!("{}: another user may open it", doing()), libc::EPERM)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mark_is_seen_until_it_is_dropped() {
        // No process has such a number.
        let (one, two) = (2_000_000_001, 2_000_000_003);
        let marks = Marks::new().unwrap();
        let mark = marks.mark(one).unwrap();
        let _other = marks.mark(two).unwrap();
        assert!(is_marked(one).unwrap() && is_marked(two).unwrap() && !is_marked(one + 1).unwrap());
        drop(mark);
        assert!(!is_marked(one).unwrap() && is_marked(two).unwrap());
        drop((marks, _other));
        assert!(!is_marked(two).unwrap());
    }
}

//! File locks: flock(2), record locks of a process and of an open file description
//! (fcntl_locking(2)), leases (F_SETLEASE(2const)).
//!
//! `fdinfo` shows the locks of the descriptor's own description (`show_fd_locks` in fs/locks.c). It
//! shows a lock of a description under each of its descriptors, and a lock of a process only under
//! that process's descriptors. It does not show waiters: a thread that waits makes its call again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::kind::fd_state::{FdState, ObservedFd};
use crate::sys::proc::locks::parse;
use crate::sys::remote::checked::Checked;

const F_SETLEASE: u64 = 1024;

/// Table row.
pub struct Lock;

/// What sort of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LockKind {
    /// A lock of the description on the whole file.
    Flock,
    /// A lock of the process. Any close of the file in the process drops it.
    Posix,
    /// A lock of the description on a range.
    Ofd,
    /// A lease of the description. Another process that opens the file waits until the lease is
    /// given back.
    Lease,
}

/// The record: one lock.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockBody {
    what: LockKind,
    write: bool,
    /// First byte.
    start: i64,
    /// Last byte; `i64::MAX` is the end of the file, wherever that will be.
    end: i64,
    /// The file, for errors.
    name: String,
}

impl FdState for Lock {
    type Body = LockBody;
    /// A file lock or a lease that is held through a descriptor.
    const TAG: Tag = Tag(*b"LOCK");

    fn dump(&self, observed: &ObservedFd<'_>) -> Result<Vec<LockBody>> {
        let mut found = Vec::new();
        for text in observed.info.lines().filter_map(|line| line.strip_prefix("lock:")) {
            let name = observed.file.target.display();
            let line = parse(text).ok_or_else(|| observed.file.refuse(format_args!("file lock{text} on {name}")))?;
            let what = match (line.what, line.state) {
                ("FLOCK", _) => LockKind::Flock,
                ("POSIX", _) => LockKind::Posix,
                ("OFDLCK", _) => LockKind::Ofd,
                ("LEASE", "ACTIVE") => LockKind::Lease,
                // Another process waits for the lease. The kernel has signalled the holder, which
                // has not given it back yet.
                ("LEASE", _) => return Err(observed.file.refuse(format_args!("lease of {name} that is being broken"))),
                _ => return Err(observed.file.refuse(format_args!("file lock{text} on {name}"))),
            };
            if what == LockKind::Lease && !observed.file.stat.is_file() {
                return Err(observed.file.refuse(format_args!("lease of {name}")));
            }
            if what == LockKind::Posix || !observed.is_known {
                let (write, start, end) = (line.write, line.start, line.end);
                found.push(LockBody { what, write, start, end, name: name.to_string() });
            }
        }
        Ok(found)
    }

    fn restore(&self, body: &LockBody, fd: i32, subject: &str, calls: &mut Checked) -> Result<()> {
        let LockBody { what, write, start, end, name } = body;
        if *start < 0 || end < start {
            return Err(Error::damaged(format!("{subject}: a lock of bytes {start} to {end}")));
        }
        let mode = if *write { libc::F_WRLCK } else { libc::F_RDLCK };
        let taking = format!("{subject} ({name}): taking its {} lock again", if *write { "write" } else { "read" });
        let upto = if *end == i64::MAX { "the end".to_owned() } else { end.to_string() };
        let range = format!("{taking}, bytes {start} to {upto}");
        let fd = fd as u64;
        match what {
            LockKind::Flock => {
                calls.call(libc::SYS_flock, [fd, flock_operation(*write)], format!("{taking} (flock)"));
            }
            LockKind::Posix | LockKind::Ofd => {
                let len = if *end == i64::MAX { 0 } else { end - start + 1 };
                // struct flock, include/uapi/asm-generic/fcntl.h: type, whence, start, length, pid.
                let words = [mode as u64, *start as u64, len as u64, 0];
                let lock = calls.put(&words.map(u64::to_le_bytes).concat());
                let how = if *what == LockKind::Ofd { libc::F_OFD_SETLK } else { libc::F_SETLK };
                calls.call(libc::SYS_fcntl, [fd, how as u64, lock.0], range);
            }
            LockKind::Lease => {
                calls.call(libc::SYS_fcntl, [fd, F_SETLEASE, mode as u64], format!("{taking} (lease)"));
            }
        }
        Ok(())
    }
}

/// The operation of flock(2) that takes a lock of a whole file, or fails at once.
pub fn flock_operation(write: bool) -> u64 {
    (libc::LOCK_NB | if write { libc::LOCK_EX } else { libc::LOCK_SH }) as u64
}

/// The names of the files that records lock as a whole, as flock(2) does.
pub fn flock_names(records: &[Record]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for record in records.iter().filter(|record| record.tag == Lock::TAG) {
        let LockBody { what, name, .. } = record.body()?;
        names.extend(Some(name).filter(|_| what == LockKind::Flock));
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

    use super::*;
    use crate::kind::observed::fake::observed;
    use crate::sys::memory::RemotePtr;
    use crate::sys::proc;

    fn dump(file: &impl AsRawFd, is_known: bool) -> Result<Vec<LockBody>> {
        let number = file.as_raw_fd();
        let info = proc::read_text(&format!("/proc/self/fdinfo/{number}")).unwrap();
        let file = &observed(file);
        FdState::dump(&Lock, &ObservedFd { file, flags: libc::O_RDWR, info: &info, is_known })
    }

    #[test]
    fn all_locks_of_a_file_are_recorded_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let range = |kind: i32, start, len| libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: start,
            l_len: len,
            l_pid: 0,
        };
        fcntl(file.as_file(), FcntlArg::F_SETLK(&range(libc::F_WRLCK, 5, 1))).unwrap();
        fcntl(file.as_file(), FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, i64::MAX - 1, 0))).unwrap();
        let file = Flock::lock(file.into_file(), FlockArg::LockShared).map_err(|(_, errno)| errno).unwrap();
        let mut found = dump(&*file, false).unwrap();
        found.sort_by_key(|body| body.start);
        let found: Vec<_> = found.iter().map(|body| (body.what, body.write, body.start, body.end)).collect();
        assert_eq!(
            found,
            [
                (LockKind::Flock, false, 0, i64::MAX),
                (LockKind::Posix, true, 5, 5),
                (LockKind::Ofd, false, i64::MAX - 1, i64::MAX)
            ]
        );
        let again = dump(&*file, true).unwrap();
        assert_eq!(again.iter().map(|body| body.what).collect::<Vec<_>>(), [LockKind::Posix], "the lock of a process");
    }

    #[test]
    fn impossible_ranges_are_damage() {
        let mut calls = Checked::new(RemotePtr(0x10000));
        for (start, end) in [(-1, 5), (6, 5)] {
            let body = LockBody { what: LockKind::Posix, write: true, start, end, name: "x".into() };
            assert!(FdState::restore(&Lock, &body, 3, "pid 1 fd 3", &mut calls).is_err());
        }
    }
}

//! File locks: flock(2), record locks of a process and of an open file description (fcntl_locking(2)), leases (F_SETLEASE(2const)).
//!
//! `fdinfo` tells those of the descriptor's own description (`show_fd_locks` in fs/locks.c): a lock of a description under every
//! descriptor of it, a lock of a process only under that process's. Waiters are not told: a thread that waits makes its call again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Tag;
use crate::kind::attribute::Checked;
use crate::kind::fd_state::{Late, Placed};
use crate::kind::open_file::Seen;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::maps::Mapping;

const F_SETLEASE: u64 = 1024;

/// All locks of the machine, proc_locks(5).
const LOCKS: &str = "/proc/locks";

/// Table row.
pub struct Lock;

/// What sort of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// Of the description, all of the file.
    Flock,
    /// Of the process: it goes with any close of the file there.
    Posix,
    /// Of the description, a range.
    Ofd,
    /// Of the description: whoever opens the file waits until it is given back.
    Lease,
}

/// The record: one lock.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    what: What,
    write: bool,
    /// First byte.
    start: i64,
    /// Last byte; `i64::MAX` is the end of the file, wherever that will be.
    end: i64,
    /// The file, for the sentence.
    name: String,
}

/// A line of `fdinfo` or /proc/locks.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    what: &'a str,
    state: &'a str,
    write: bool,
    pid: Pid,
    dev: u64,
    ino: u64,
    start: i64,
    end: i64,
}

/// `1: POSIX  ADVISORY  WRITE 812 fe:01:42 0 EOF`; `None` for a waiter (`1: -> ...`) and what is no such line.
fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (what, state, mode) = (words.next()?, words.next()?, words.next()?);
    let pid = words.next()?.parse().ok()?;
    let mut of = words.next()?.split(':');
    let hex = |word: Option<&str>| u32::from_str_radix(word?, 16).ok();
    let dev = libc::makedev(hex(of.next())?, hex(of.next())?);
    let ino = of.next()?.parse().ok()?;
    let start = words.next()?.parse().ok()?;
    let end = match words.next()? {
        "EOF" => i64::MAX,
        end => end.parse().ok()?,
    };
    Some(Line { what, state, write: mode == "WRITE", pid, dev, ino, start, end })
}

impl Late for Lock {
    type Body = Body;
    const TAG: Tag = Tag(*b"LOCK");

    fn dump(&self, placed: &Placed<'_>) -> Result<Vec<Body>> {
        let mut found = Vec::new();
        for text in placed.info.lines().filter_map(|line| line.strip_prefix("lock:")) {
            let name = placed.seen.target.display();
            let line = parse(text).ok_or_else(|| placed.seen.refuse(format_args!("file lock{text} on {name}")))?;
            let what = match (line.what, line.state) {
                ("FLOCK", _) => What::Flock,
                ("POSIX", _) => What::Posix,
                ("OFDLCK", _) => What::Ofd,
                ("LEASE", "ACTIVE") => What::Lease,
                // The holder has been told, and has not given it back yet; somebody else waits for it.
                ("LEASE", _) => return Err(placed.seen.refuse(format_args!("lease of {name} that is being broken"))),
                _ => return Err(placed.seen.refuse(format_args!("file lock{text} on {name}"))),
            };
            if what == What::Lease && !placed.seen.stat.is_file() {
                return Err(placed.seen.refuse(format_args!("lease of {name}")));
            }
            let known = if what == What::Posix { placed.is_known_here } else { placed.is_known };
            if !known {
                let (write, start, end) = (line.write, line.start, line.end);
                found.push(Body { what, write, start, end, name: name.to_string() });
            }
        }
        Ok(found)
    }

    fn restore(&self, body: &Body, fd: i32, subject: &str, calls: &mut Checked) -> Result<()> {
        let Body { what, write, start, end, name } = body;
        if *start < 0 || end < start {
            return Err(Error::damaged(format!("{subject}: a lock of bytes {start} to {end}")));
        }
        let mode = if *write { libc::F_WRLCK } else { libc::F_RDLCK };
        let taking = format!("{subject} ({name}): taking its {} lock again", if *write { "write" } else { "read" });
        let upto = if *end == i64::MAX { "the end".to_owned() } else { end.to_string() };
        let range = format!("{taking}, bytes {start} to {upto}");
        let fd = fd as u64;
        match what {
            What::Flock => {
                let how = libc::LOCK_NB | if *write { libc::LOCK_EX } else { libc::LOCK_SH };
                calls.call(libc::SYS_flock, [fd, how as u64], format!("{taking} (flock)"));
            }
            What::Posix | What::Ofd => {
                let len = if *end == i64::MAX { 0 } else { end - start + 1 };
                // struct flock, include/uapi/asm-generic/fcntl.h: type, whence, start, length, pid.
                let words = [mode as u64, *start as u64, len as u64, 0];
                let lock = calls.put(&words.map(u64::to_le_bytes).concat());
                let how = if *what == What::Ofd { libc::F_OFD_SETLK } else { libc::F_SETLK };
                calls.call(libc::SYS_fcntl, [fd, how as u64, lock.0], range);
            }
            What::Lease => {
                calls.call(libc::SYS_fcntl, [fd, F_SETLEASE, mode as u64], format!("{taking} (lease)"));
            }
        }
        Ok(())
    }
}

/// Makes looks at the machine's locks quick for the next milliseconds. The first one waits for a grace period of RCU, 6 to 20 ms
/// (`percpu_down_write` in fs/locks.c, kernel/rcu/sync.c), which is not to be waited for while a process stands still.
pub fn prepare() {
    // What cannot be read now is told of when it is needed.
    let _ = proc::read_text(LOCKS);
}

/// Which mappings are of files with a lock of a description. A mapping is a reference to the description that it was made through: a copy
/// of it in somebody else's address space would keep the lock when the process itself has let go.
///
/// `speaker` is a thread that has not ended.
///
/// # Errors
/// A lock of the process itself that none of its descriptors tells of: the mapping alone still holds it.
pub fn of_mappings(pid: Pid, speaker: Pid, mappings: &[Mapping]) -> Result<Vec<(u64, u64)>> {
    let locks = proc::read_text(LOCKS)?;
    let mapped: BTreeSet<(u64, u64)> = mappings.iter().filter(|m| m.ino != 0).map(|m| (m.dev, m.ino)).collect();
    let of_description = |line: &Line<'_>| line.what != "POSIX" && mapped.contains(&(line.dev, line.ino));
    let locks: Vec<Line<'_>> = locks.lines().filter_map(parse).filter(of_description).collect();
    if locks.is_empty() {
        return Ok(Vec::new());
    }
    let mut told = String::new();
    for number in proc::numbers(&format!("/proc/{speaker}/fd"))? {
        told += &proc::read_text(&format!("/proc/{speaker}/fdinfo/{number}"))?;
    }
    let told: Vec<Line<'_>> = told.lines().filter_map(|line| line.strip_prefix("lock:")).filter_map(parse).collect();
    for line in &locks {
        let is_told = told.contains(line);
        let name = mappings.iter().find(|m| (m.dev, m.ino) == (line.dev, line.ino)).map_or(&[][..], |m| &m.name);
        let name = String::from_utf8_lossy(name);
        // That of a description names nobody (-1): it may be this one's.
        if !is_told && (line.pid == pid || line.pid == -1) {
            return Err(Error::unsupported(format!(
                "pid {pid}: a file lock ({}) on {name} that only a mapping of it holds cannot be checkpointed",
                line.what
            )));
        }
        if is_told && is_lease(line) && line.write {
            // The mapping would be made through another description, and nobody else may have the file open.
            return Err(Error::unsupported(format!(
                "pid {pid}: a write lease of {name}, which is mapped as well, cannot be checkpointed"
            )));
        }
    }
    let locked = mappings.iter().filter(|m| locks.iter().any(|line| (m.dev, m.ino) == (line.dev, line.ino)));
    Ok(locked.map(|m| (m.start, m.end)).collect())
}

/// Refuses a file that opening would disturb: whoever opens it breaks its lease.
pub fn refuse_leased(seen: &Seen<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    match is_leased(seen.stat.dev(), seen.stat.ino())? {
        true => Err(seen.refuse(format_args!("lease of {}", seen.target.display()))),
        false => Ok(()),
    }
}

/// Whether somebody has a lease of this file, and would have to give it back if it were opened.
pub fn is_leased(dev: u64, ino: u64) -> Result<bool> {
    let locks = proc::read_text(LOCKS)?;
    Ok(locks.lines().filter_map(parse).any(|line| is_lease(&line) && (line.dev, line.ino) == (dev, ino)))
}

fn is_lease(line: &Line<'_>) -> bool {
    matches!(line.what, "LEASE" | "DELEG")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

    use super::*;
    use crate::kind::open_file::Held;
    use crate::sys::memory::RemotePtr;
    use crate::sys::proc::status::Fields;

    #[test]
    fn lines_of_every_kind() {
        let line = parse("1: POSIX  ADVISORY  WRITE 812 fe:01:42 9223372036854775807 EOF").unwrap();
        assert_eq!((line.what, line.write, line.pid, line.start, line.end), ("POSIX", true, 812, i64::MAX, i64::MAX));
        assert_eq!((line.dev, line.ino), (libc::makedev(0xfe, 1), 42));
        let line = parse("2: OFDLCK ADVISORY  READ -1 00:2b:7 10 19").unwrap();
        assert_eq!((line.what, line.write, line.pid, line.start, line.end), ("OFDLCK", false, -1, 10, 19));
        let line = parse("3: LEASE  BREAKING  READ 1 00:2b:7 0 EOF").unwrap();
        assert!(is_lease(&line) && line.state == "BREAKING");
        assert!(parse("3: -> FLOCK  ADVISORY  WRITE 812 fe:01:42 0 EOF").is_none());
        assert!(parse("").is_none());
    }

    fn dump(file: &impl AsRawFd, is_known: bool) -> Result<Vec<Body>> {
        let number = file.as_raw_fd();
        let link = format!("/proc/self/fd/{number}");
        let info = proc::read_text(&format!("/proc/self/fdinfo/{number}")).unwrap();
        let seen = Seen {
            subject: "test".into(),
            target: std::fs::read_link(&link).unwrap(),
            stat: std::fs::metadata(&link).unwrap(),
            flags: libc::O_RDWR,
            position: 0,
            info: Fields::parse(&info),
            must_not_change: false,
            held: Held::Link(""),
        };
        let placed = Placed { seen: &seen, flags: libc::O_RDWR, info: &info, is_known, is_known_here: is_known };
        Late::dump(&Lock, &placed)
    }

    #[test]
    fn all_locks_of_a_file_are_told_once() {
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
        let told: Vec<_> = found.iter().map(|body| (body.what, body.write, body.start, body.end)).collect();
        assert_eq!(
            told,
            [(What::Flock, false, 0, i64::MAX), (What::Posix, true, 5, 5), (What::Ofd, false, i64::MAX - 1, i64::MAX)]
        );
        assert_eq!(dump(&*file, true).unwrap(), []);
    }

    #[test]
    fn impossible_ranges_are_damage() {
        let mut calls = Checked::new(RemotePtr(0x10000));
        for (start, end) in [(-1, 5), (6, 5)] {
            let body = Body { what: What::Posix, write: true, start, end, name: "x".into() };
            assert!(Late::restore(&Lock, &body, 3, "pid 1 fd 3", &mut calls).is_err());
        }
    }
}

//! /proc/locks, proc_locks(5): all locks of the machine.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::sys::pid::Pid;
use crate::sys::proc;

/// The file that lists all locks of the machine.
const LOCKS: &str = "/proc/locks";

/// A lock: one line of `fdinfo` or /proc/locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line<'a> {
    pub what: &'a str,
    pub state: &'a str,
    pub write: bool,
    pub pid: Pid,
    pub dev: u64,
    pub ino: u64,
    pub start: i64,
    pub end: i64,
}

/// Parses `1: POSIX  ADVISORY  WRITE 812 fe:01:42 0 EOF`. `None` for a waiter (`1: -> ...`) and for
/// any other line.
pub fn parse(line: &str) -> Option<Line<'_>> {
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

/// Makes reads of the machine's locks fast for the next milliseconds. The first read waits for a
/// grace period of RCU, 6 to 20 ms (`percpu_down_write` in fs/locks.c, kernel/rcu/sync.c). That
/// wait must not happen while a process is stopped.
pub fn prepare() {
    // The read that needs the locks reports a failure.
    let _ = read();
}

/// Locks by the device and inode of their file.
pub type ByFile<'a> = BTreeMap<(u64, u64), Vec<Line<'a>>>;

/// The lines of all locks of the machine, for [`by_file`].
pub fn read() -> Result<String> {
    proc::read_text(LOCKS)
}

/// The locks of these lines, by their file.
pub fn by_file(text: &str) -> ByFile<'_> {
    let mut found = ByFile::new();
    for line in text.lines().filter_map(parse) {
        found.entry((line.dev, line.ino)).or_default().push(line);
    }
    found
}

/// Whether a process holds a lease of this file, which opening the file would break.
pub fn is_leased(dev: u64, ino: u64) -> Result<bool> {
    Ok(leased()?.contains(&(dev, ino)))
}

/// All files with a lease, by device and inode.
pub fn leased() -> Result<BTreeSet<(u64, u64)>> {
    let locks = read()?;
    let leases = locks.lines().filter_map(parse).filter(is_lease);
    Ok(leases.map(|line| (line.dev, line.ino)).collect())
}

/// Whether it is a lease of a file or of a directory.
pub fn is_lease(line: &Line<'_>) -> bool {
    matches!(line.what, "LEASE" | "DELEG")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {

    use super::*;

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
}

//! Locks of files that a process has mapped.
//!
//! A mapping refers to the open file description that it was made through. So a lock of that
//! description, flock(2), outlives its last descriptor: the file is opened, locked, mapped and
//! closed. Every Java virtual machine does so with its file of performance counters. No descriptor
//! shows such a lock. /proc/locks does, with the process that took it.
//!
//! The process takes the lock again through the description that the restore maps, before the
//! descriptor of that is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file::lock;
use crate::freeze::bound::StopBound;
use crate::image::frame::{Record, Tag};
use crate::kind::record_sort::{self, RecordSort};
use crate::refusals::Refusals;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::locks::{ByFile, Line, is_lease, parse};
use crate::sys::proc::maps::Mapping;
use crate::sys::remote::checked::Checked;

/// The locks of a process that only its mappings hold. A process without one writes none. Body:
/// [`MappedLocks`].
pub const TAG: Tag = Tag(*b"MLCK");
/// Its row in the table of records.
pub const SORT: RecordSort = record_sort::of_task(TAG);

/// The record: the locks of one process that only its mappings hold.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedLocks {
    /// The process.
    pub tid: Pid,
    /// The locks, at most one for each file.
    pub locks: Vec<MappedLock>,
}

/// A lock of a whole file, flock(2).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedLock {
    /// Start address of the first mapping of the file.
    pub start: u64,
    /// Whether it is exclusive.
    write: bool,
    /// The file, for errors.
    name: String,
}

/// The locks of the files that a process has mapped.
#[derive(Default)]
pub struct LocksOfMappings {
    /// Mappings of files with a lock of a description. A copy of such a mapping in another address
    /// space would keep the lock after the process has released it.
    pub ranges: Vec<(u64, u64)>,
    /// The locks that only mappings hold.
    pub hidden: Vec<MappedLock>,
}

impl MappedLocks {
    /// The record.
    pub fn record(&self) -> Result<Record> {
        Record::new(TAG, self)
    }
}

impl MappedLock {
    /// Adds the call that takes it again through `fd`, a descriptor of the mapped description.
    pub fn restore(&self, pid: Pid, fd: i32, calls: &mut Checked) {
        let mode = if self.write { "write" } else { "read" };
        let doing = format!("pid {pid} ({}): taking its {mode} lock again (flock)", self.name);
        calls.call(libc::SYS_flock, [fd as u64, lock::flock_operation(self.write)], doing);
    }

    /// The refusal for a process that uses the address space of another one (CLONE_VM): the other
    /// one's mappings hold the lock.
    pub fn refuse_borrowed(&self, pid: Pid) -> Error {
        refuse(pid, "FLOCK", &self.name)
    }
}

/// Finds the locks of the files that a process has mapped.
///
/// `representative` is a thread that has not ended. `all` are the locks of the machine.
///
/// # Errors
/// A lock that only a mapping holds and that a restore cannot take again.
pub fn of_mappings(
    pid: Pid,
    representative: Pid,
    mappings: &[Mapping],
    all: &ByFile<'_>,
    bound: &StopBound,
) -> Result<LocksOfMappings> {
    let mut mapped: BTreeMap<(u64, u64), Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.ino != 0) {
        mapped.entry((mapping.dev, mapping.ino)).or_default().push(mapping);
    }
    let of_descriptions = |lines: &[Line<'_>]| lines.iter().any(|line| line.what != "POSIX");
    mapped.retain(|file, _| all.get(file).is_some_and(|lines| of_descriptions(lines)));
    if mapped.is_empty() {
        return Ok(LocksOfMappings::default());
    }
    let mut text = String::new();
    for number in proc::numbers(&format!("/proc/{representative}/fd"))? {
        bound.check(|| format!("pid {pid} fd {number}"))?;
        text += &proc::read_text(&format!("/proc/{representative}/fdinfo/{number}"))?;
    }
    let shown: BTreeSet<Line<'_>> =
        text.lines().filter_map(|line| line.strip_prefix("lock:")).filter_map(parse).collect();
    let mut found = LocksOfMappings::default();
    for (file, mappings) in &mapped {
        for line in all[file].iter().filter(|line| line.what != "POSIX") {
            bound.check(|| format!("pid {pid}: its file locks"))?;
            let is_shown = shown.contains(line);
            if !is_shown && is_of(line, pid) {
                found.hidden.push(hidden_lock(pid, line, mappings)?);
            }
            if is_shown && is_lease(line) && line.write {
                // A restore would make the mapping through another description, and a write lease
                // allows no other.
                return Err(Error::unsupported(format!(
                    "pid {pid}: a write lease of {}, which is mapped as well, cannot be checkpointed",
                    name_of(mappings)
                )));
            }
        }
        found.ranges.extend(mappings.iter().map(|mapping| (mapping.start, mapping.end)));
    }
    Ok(found)
}

/// Whether a lock that no descriptor of the process shows may be held by a mapping of it. A lock of
/// a range names no process (-1). One of a process that has ended may have been inherited.
fn is_of(line: &Line<'_>, pid: Pid) -> bool {
    line.pid == pid || line.pid == -1 || line.what == "FLOCK" && !Path::new(&format!("/proc/{}", line.pid)).exists()
}

/// The lock that `line` shows, as the record has it. All mappings `of_file` must be parts of one:
/// of several, the kernel does not show which one has the locked description.
fn hidden_lock(pid: Pid, line: &Line<'_>, of_file: &[&Mapping]) -> Result<MappedLock> {
    let name = name_of(of_file);
    let mut of_file = of_file.iter();
    let first = of_file.next();
    let is_next = |(end, offset): (u64, u64), m: &&Mapping| {
        let is_part = m.start == end && m.offset == offset;
        is_part.then_some((m.end, m.offset + (m.end - m.start)))
    };
    let is_one = first.and_then(|first| {
        let behind = (first.end, first.offset + (first.end - first.start));
        of_file.filter(|m| m.shared == first.shared).try_fold(behind, is_next)
    });
    match first {
        Some(first) if line.what == "FLOCK" && line.pid == pid && is_one.is_some() => {
            Ok(MappedLock { start: first.start, write: line.write, name })
        }
        _ => Err(refuse(pid, line.what, &name)),
    }
}

fn refuse(pid: Pid, what: &str, name: &str) -> Error {
    Error::unsupported(format!(
        "pid {pid}: a file lock ({what}) on {name} that only a mapping of it holds cannot be checkpointed"
    ))
}

fn name_of(of_file: &[&Mapping]) -> String {
    of_file.first().map_or_else(String::new, |mapping| String::from_utf8_lossy(&mapping.name).into_owned())
}

/// Refuses a lock that a descriptor of another process shows as well: the restore would take it
/// twice, through two descriptions.
pub fn refuse_shown<'a>(
    locks: impl Iterator<Item = &'a MappedLocks>,
    fd_states: &[Record],
    refusals: &mut Refusals,
) -> Result<()> {
    let mut shown = None;
    for MappedLocks { tid, locks } in locks {
        for MappedLock { name, .. } in locks {
            let shown = match &shown {
                Some(shown) => shown,
                None => shown.insert(lock::flock_names(fd_states)?),
            };
            if shown.contains(name) {
                refusals.refuse(Error::unsupported(format!(
                    "pid {tid}: a file lock (FLOCK) on {name} that a mapping of it shares with a descriptor of another process cannot be checkpointed"
                )))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, offset: u64, ino: u64) -> Mapping {
        let name = b"/counters".to_vec();
        Mapping { start, end, prot: libc::PROT_READ, shared: true, offset, dev: libc::makedev(0xfe, 1), ino, name }
    }

    #[test]
    fn the_mapping_that_holds_a_lock_is_found_or_refused() {
        let line = parse("1: FLOCK  ADVISORY  WRITE 812 fe:01:42 0 EOF").unwrap();
        let parts = [mapping(0x1000, 0x3000, 0, 42), mapping(0x3000, 0x4000, 0x2000, 42)];
        let found = hidden_lock(812, &line, &[&parts[0], &parts[1]]).unwrap();
        assert_eq!(found, MappedLock { start: 0x1000, write: true, name: "/counters".into() });
        let locks = MappedLocks { tid: 812, locks: vec![found] };
        assert_eq!(locks.record().unwrap().body::<MappedLocks>().unwrap(), locks);

        let two = [mapping(0x1000, 0x3000, 0, 42), mapping(0x5000, 0x6000, 0x2000, 42)];
        for (pid, mappings) in [(812, &two[..]), (813, &parts[..])] {
            let refused = hidden_lock(pid, &line, &mappings.iter().collect::<Vec<_>>()).unwrap_err().to_string();
            assert!(refused.contains("a file lock (FLOCK) on /counters that only a mapping of it holds"), "{refused}");
        }
        let range = parse("1: OFDLCK ADVISORY  WRITE -1 fe:01:42 0 EOF").unwrap();
        assert!(is_of(&range, 812) && hidden_lock(812, &range, &[&parts[0], &parts[1]]).is_err());
    }

    #[test]
    fn a_lock_is_of_its_process_or_inherited_from_one_that_has_ended() {
        let line = |pid: u32| format!("1: FLOCK  ADVISORY  READ {pid} fe:01:42 0 EOF");
        let own = line(std::process::id());
        assert!(!is_of(&parse(&own).unwrap(), 1) && is_of(&parse(&own).unwrap(), std::process::id() as Pid));
        assert!(is_of(&parse(&line(4_194_304)).unwrap(), 1), "no process can have this pid");
    }
}

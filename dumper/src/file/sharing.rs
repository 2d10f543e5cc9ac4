//! Who shares what: descriptor tables, and which descriptors are one open file description.
//!
//! kcmp(2) alone can tell; it is asked only of descriptors that agree in everything visible.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::KINDS;
use super::object::{self, Contents, Objects};
use super::open_file::{Held, NOT_KEPT, Seen};
use crate::image::{Record, Tag};
use crate::sys::fd::{self, PidFd};
use crate::sys::proc::{self, Fields};
use crate::sys::query::{self, Kcmp};
use crate::task::attribute::FileIds;
use crate::{Context, Error, Pid, Result};

/// The tag of a descriptor table.
pub const TABLE: Tag = Tag(*b"FDTB");

/// A process's descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    /// The process.
    pub tid: Pid,
    /// Number, id of the open file, close-on-exec.
    pub fds: Vec<(i32, u32, bool)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Visible {
    dev: u64,
    ino: u64,
    position: u64,
    flags: i32,
}

/// Collects the open files of a tree, each description once.
#[derive(Default)]
pub struct Collector {
    inner: std::cell::RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: Vec<(Record, Option<Contents>)>,
    /// By device and inode.
    shared: BTreeMap<(u64, u64), u32>,
    records: Vec<Record>,
    known: BTreeMap<Visible, Vec<(Pid, i32, u32)>>,
    referred: BTreeMap<(u64, u64, i32, bool), u32>,
}

impl Collector {
    /// The objects with their contents, and the descriptions: each in the order of their ids.
    pub fn into_records(self) -> (Vec<(Record, Option<Contents>)>, Vec<Record>) {
        let Inner { objects, records, .. } = self.inner.into_inner();
        (objects, records)
    }

    /// Adds a description that is not known yet.
    fn add(&self, seen: &Seen<'_>) -> Result<u32> {
        let kind = KINDS.iter().find(|kind| kind.takes(seen)).ok_or_else(|| seen.refuse(describe(seen)))?;
        let id = self.inner.borrow().records.len() as u32;
        let record = kind.dump(id, seen, self)?;
        self.inner.borrow_mut().records.push(record);
        Ok(id)
    }

    /// All descriptors of `pid`, whose threads must share one table.
    pub fn table(&self, pid: Pid) -> Result<Record> {
        for tid in proc::numbers(&format!("/proc/{pid}/task"))? {
            if tid != pid && !query::kcmp(pid, tid, Kcmp::Files, 0, 0)? {
                return Err(Error::unsupported(format!(
                    "pid {pid} task {tid}: a thread with descriptors of its own cannot be checkpointed yet"
                )));
            }
        }
        let pidfd = PidFd::open(pid)?;
        let mut fds = Vec::new();
        for number in proc::numbers(&format!("/proc/{pid}/fd"))? {
            let (id, cloexec) = self.descriptor(pid, &pidfd, number)?;
            fds.push((number, id, cloexec));
        }
        Record::new(TABLE, &Table { tid: pid, fds })
    }

    fn descriptor(&self, pid: Pid, pidfd: &PidFd, number: i32) -> Result<(u32, bool)> {
        let subject = format!("pid {pid} fd {number}");
        let info = Fields::read(&format!("/proc/{pid}/fdinfo/{number}"))?;
        let all_flags = info.octal("flags") as i32;
        let cloexec = all_flags & libc::O_CLOEXEC != 0;
        let flags = all_flags & !NOT_KEPT;
        let position = info.number("pos");
        let link = format!("/proc/{pid}/fd/{number}");
        let seen = look(subject.clone(), &link, flags, position, info, false, Held::Descriptor(pidfd, number))?;
        let visible = Visible { dev: seen.stat.dev(), ino: seen.stat.ino(), position, flags };
        for &(other_pid, other, id) in self.inner.borrow().known.get(&visible).map_or(&[][..], Vec::as_slice) {
            if query::kcmp(other_pid, pid, Kcmp::File, other as u64, number as u64)? {
                return Ok((id, cloexec));
            }
        }
        let id = self.add(&seen)?;
        if flags & libc::O_PATH == 0 {
            let pulled = seen.description()?;
            if fd::owner(&pulled).on(|| &subject)? != (0, 0) || flags & libc::O_ASYNC != 0 {
                return Err(seen.refuse(format_args!("{} with signal-driven I/O", seen.target.display())));
            }
        }
        self.inner.borrow_mut().known.entry(visible).or_default().push((pid, number, id));
        Ok((id, cloexec))
    }
}

impl FileIds for Collector {
    fn id_of(&self, link: &str, flags: i32, must_not_change: bool, subject: &str) -> Result<u32> {
        let held = Held::Link(link);
        let seen = look(subject.to_owned(), link, flags, 0, Fields::parse(""), must_not_change, held)?;
        if !seen.stat.is_file() && !KINDS.iter().any(|kind| kind.is_mappable(&seen)) {
            return Err(seen.refuse(format_args!("mapping of {}", seen.target.display())));
        }
        let key = (seen.stat.dev(), seen.stat.ino(), flags, must_not_change);
        if let Some(id) = self.inner.borrow().referred.get(&key) {
            return Ok(*id);
        }
        let id = self.add(&seen)?;
        self.inner.borrow_mut().referred.insert(key, id);
        Ok(id)
    }
}

impl Objects for Collector {
    fn id_of(&self, kind: &dyn object::Row, seen: &Seen<'_>) -> Result<u32> {
        let key = (seen.stat.dev(), seen.stat.ino());
        if let Some(id) = self.inner.borrow().shared.get(&key) {
            return Ok(*id);
        }
        let id = self.inner.borrow().objects.len() as u32;
        let object = kind.dump(id, seen)?;
        let mut inner = self.inner.borrow_mut();
        inner.objects.push(object);
        inner.shared.insert(key, id);
        Ok(id)
    }
}

fn look<'a>(
    subject: String,
    link: &str,
    flags: i32,
    position: u64,
    info: Fields,
    must_not_change: bool,
    held: Held<'a>,
) -> Result<Seen<'a>> {
    let target = proc::read_link(link).on(|| subject.clone())?;
    let stat = std::fs::metadata(link).map_err(|error| Error::io(format_args!("{subject}: stat"), &error))?;
    Ok(Seen { subject, target, stat, flags, position, info, must_not_change, held })
}

/// What something is, for the sentence that refuses it.
fn describe(seen: &Seen<'_>) -> String {
    let target = seen.target.display().to_string();
    for (prefix, what) in [
        ("pipe:", "a pipe"),
        ("socket:", "a socket"),
        ("anon_inode:[eventpoll]", "epoll"),
        ("anon_inode:[eventfd]", "an eventfd"),
        ("anon_inode:[timerfd]", "a timerfd"),
        ("anon_inode:[signalfd]", "a signalfd"),
        ("anon_inode:inotify", "inotify"),
        ("anon_inode:[fanotify]", "fanotify"),
        ("anon_inode:[io_uring]", "io_uring"),
        ("anon_inode:[userfaultfd]", "userfaultfd"),
        ("anon_inode:[pidfd]", "a pidfd"),
        ("anon_inode:[perf_event]", "a perf event"),
        ("anon_inode:bpf", "a BPF object"),
    ] {
        if target.starts_with(prefix) {
            return format!("{what} ({target})");
        }
    }
    use std::os::unix::fs::FileTypeExt;
    let kind = seen.stat.file_type();
    let what = match () {
        () if kind.is_fifo() => "FIFO",
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    format!("{what} {target}")
}

//! Who shares what: descriptor tables, and which descriptors are one open file description.
//!
//! kcmp(2) alone can tell; it is asked only of descriptors that agree in everything visible.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use crate::error::{Context, Doing, Error, Result};
use crate::file::fd_table::{FdTable, TABLE, Visible};
use crate::file::{KINDS, LATE};
use crate::image::frame::Record;
use crate::kind::external::{self, External, Key};
use crate::kind::fd_state::{Named, Placed};
use crate::kind::object::{self, DumpContext, ObjectContents};
use crate::kind::observed::{NOT_KEPT, ObservedFile, Via};
use crate::kind::refs::FileIds;
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::status::Fields;
use crate::sys::{clock, proc};

/// The open files of a tree.
pub struct CollectedFiles {
    /// What descriptions share, with contents, in the order of the ids.
    pub objects: Vec<(Record, Option<ObjectContents>)>,
    /// The descriptions, in the order of their ids.
    pub files: Vec<Record>,
    /// What descriptors have beyond: it refers to the tables.
    pub late: Vec<Record>,
}

/// Collects the open files of a tree, each description once.
pub struct FileCollector {
    tree: Vec<Pid>,
    /// When it was looked at, in ticks since boot.
    instant: u64,
    inner: std::cell::RefCell<CollectedState>,
}

/// An object of which others may hold an end.
struct ReachesOutside {
    id: u32,
    kind: &'static dyn object::DynObject,
    key: Key,
    /// Of the descriptor that led to it.
    subject: String,
    shown: String,
    flags: i32,
}

#[derive(Default)]
struct CollectedState {
    objects: Vec<(Record, Option<ObjectContents>)>,
    /// By device and inode.
    shared: BTreeMap<(u64, u64), u32>,
    records: Vec<Record>,
    known: BTreeMap<Visible, Vec<(Pid, i32, u32)>>,
    referred: BTreeMap<(u64, u64, i32, bool), u32>,
    reaching: Vec<ReachesOutside>,
    /// Which descriptions each process has.
    held: BTreeSet<(Pid, u32)>,
    late: Vec<Record>,
    /// Who must be in the tree, and the sentence if not.
    named: Vec<(Named, Error)>,
}

impl FileCollector {
    /// For the processes with these ids, which are all of the tree, and stopped.
    pub fn of(tree: Vec<Pid>) -> Self {
        Self { tree, instant: clock::boot_ticks(), inner: Default::default() }
    }

    /// Looks who outside of the tree holds a part of what is in the image. That takes as long as there are descriptors in the whole
    /// system, so it happens when the tree goes on already: who has come since does not count, who has left since is not seen.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unsupported`] names the first; with `keep` such an object's record says that it is to be found again.
    pub fn settle(&self, keep: bool) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        let CollectedState { objects, reaching, .. } = &mut *inner;
        let mut keys: Vec<Key> = reaching.iter().map(|reaching| reaching.key).collect();
        // Most trees hold none: then nobody is looked at.
        let others = if keys.is_empty() { Vec::new() } else { proc::numbers("/proc")? };
        for pid in others {
            let held = external::held_by(pid, &keys);
            if held.is_empty() || !external::is_outside(pid, &self.tree, self.instant) {
                continue;
            }
            for (reaching, holder) in reaching.iter().flat_map(|r| held.iter().find(|h| h.key == r.key).map(|h| (r, h)))
            {
                if !keep {
                    return Err(reaching.held_outside(holder));
                }
                keys.retain(|key| *key != reaching.key);
                let (record, _) = &mut objects[reaching.id as usize];
                *record = reaching.kind.external(record, External::of(reaching.key)?)?;
            }
        }
        Ok(())
    }

    /// All that was found.
    ///
    /// # Errors
    /// Somebody is to be signalled who is not in the tree, says `is_known`.
    pub fn into_records(self, is_known: impl Fn(Named) -> bool) -> Result<CollectedFiles> {
        let CollectedState { objects, records, late, named, .. } = self.inner.into_inner();
        if let Some((_, refused)) = named.into_iter().find(|(who, _)| !is_known(*who)) {
            return Err(refused);
        }
        Ok(CollectedFiles { objects, files: records, late })
    }

    /// Adds a description that is not known yet.
    fn add(&self, seen: &ObservedFile<'_>) -> Result<u32> {
        let kind = KINDS.iter().find(|kind| kind.takes(seen)).ok_or_else(|| seen.refuse(describe(seen)))?;
        let id = self.inner.borrow().records.len() as u32;
        let record = kind.dump(id, seen, self)?;
        self.inner.borrow_mut().records.push(record);
        Ok(id)
    }

    /// All descriptors of `pid`, a process or a thread with a table of its own; `speaker` is a thread that has not ended.
    pub fn table(&self, pid: Pid, speaker: Pid) -> Result<Record> {
        let pidfd = PidFd::of_thread(speaker)?;
        let mut fds = Vec::new();
        for number in proc::numbers(&format!("/proc/{speaker}/fd"))? {
            let (id, cloexec) = self.descriptor(pid, speaker, &pidfd, number)?;
            fds.push((number, id, cloexec));
        }
        Record::new(TABLE, &FdTable { tid: pid, fds })
    }

    /// One descriptor of the table that is told as `pid`'s; the kernel is asked about `speaker`, since who has ended has none.
    fn descriptor(&self, pid: Pid, speaker: Pid, pidfd: &PidFd, number: i32) -> Result<(u32, bool)> {
        let subject = format!("pid {pid} fd {number}");
        let text = proc::read_text(&format!("/proc/{speaker}/fdinfo/{number}"))?;
        let info = Fields::parse(&text);
        let all_flags = info.octal("flags") as i32;
        let cloexec = all_flags & libc::O_CLOEXEC != 0;
        let flags = all_flags & !(NOT_KEPT & !libc::O_NOFOLLOW);
        let position = info.number("pos");
        let link = format!("/proc/{speaker}/fd/{number}");
        let mut seen = look(subject, &link, flags, position, info, false, Via::Descriptor(pidfd, number))?;
        if !(seen.stat.is_file() || seen.stat.is_dir()) {
            // Only F_SETFL makes it act, and only where it was not set before; files proper do not know it, and keep it as it is.
            seen.flags &= !libc::O_ASYNC;
        }
        let visible = Visible { dev: seen.stat.dev(), ino: seen.stat.ino(), position, flags };
        let known = self.known(&visible, speaker, number)?;
        let id = known.map_or_else(|| self.add(&seen), Ok)?;
        let is_known_here = !self.inner.borrow_mut().held.insert((pid, id));
        let placed = Placed { seen: &seen, flags: all_flags, info: &text, is_known: known.is_some(), is_known_here };
        for kind in LATE {
            for (record, named) in kind.dump(pid, number, &placed)? {
                let mut inner = self.inner.borrow_mut();
                inner.late.push(record);
                let stranger = |who| seen.refuse(format_args!("{}: {who:?}, not in the tree,", seen.target.display()));
                inner.named.extend(named.map(|who| (who, stranger(who))));
            }
        }
        if known.is_none() {
            self.inner.borrow_mut().known.entry(visible).or_default().push((speaker, number, id));
        }
        Ok((id, cloexec))
    }

    /// The description, if another descriptor has led to it.
    fn known(&self, visible: &Visible, speaker: Pid, number: i32) -> Result<Option<u32>> {
        for &(other_speaker, other, id) in self.inner.borrow().known.get(visible).map_or(&[][..], Vec::as_slice) {
            if kcmp::kcmp(other_speaker, speaker, Kcmp::File, other as u64, number as u64)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

impl FileIds for FileCollector {
    fn id_of(&self, link: &str, flags: i32, must_not_change: bool, subject: &str) -> Result<u32> {
        let held = Via::Link(link);
        let seen = look(subject.to_owned(), link, flags, 0, Fields::parse(""), must_not_change, held)?;
        if !(seen.stat.is_file() || seen.stat.is_dir() || KINDS.iter().any(|kind| kind.is_mappable(&seen))) {
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

impl DumpContext for FileCollector {
    fn id_of(&self, kind: &'static dyn object::DynObject, seen: &ObservedFile<'_>) -> Result<u32> {
        let key = (seen.stat.dev(), seen.stat.ino());
        if let Some(id) = self.inner.borrow().shared.get(&key) {
            return Ok(*id);
        }
        let id = self.inner.borrow().objects.len() as u32;
        let object = kind.dump(id, seen)?;
        let mut inner = self.inner.borrow_mut();
        inner.objects.push(object);
        if kind.reaches_out() {
            let (subject, shown) = (seen.subject.clone(), seen.target.display().to_string());
            inner.reaching.push(ReachesOutside { id, kind, key, subject, shown, flags: seen.flags });
        }
        inner.shared.insert(key, id);
        Ok(id)
    }

    fn holds(&self, pid: Pid) -> bool {
        self.tree.contains(&pid)
    }
}

impl ReachesOutside {
    fn held_outside(&self, holder: &external::Holder) -> Error {
        let mode = self.flags & libc::O_ACCMODE;
        let same = holder.modes() == (mode != libc::O_WRONLY, mode != libc::O_RDONLY);
        Error::unsupported(format!(
            "{}: {} end of {} is held by pid {} ({}), which is not of the tree",
            self.subject,
            if same { "this" } else { "the other" },
            self.shown,
            holder.pid,
            holder.name()
        ))
    }
}

fn look<'a>(
    subject: String,
    link: &str,
    flags: i32,
    position: u64,
    info: Fields,
    must_not_change: bool,
    held: Via<'a>,
) -> Result<ObservedFile<'a>> {
    let target = proc::read_link(link).on(|| subject.clone())?;
    let stat = std::fs::metadata(link).doing(|| format!("{subject}: stat"))?;
    Ok(ObservedFile { subject, target, stat, flags, position, info, must_not_change, held })
}

/// What something is, for the sentence that refuses it.
fn describe(seen: &ObservedFile<'_>) -> String {
    let target = seen.target.display().to_string();
    for (prefix, what) in [
        ("socket:", "a socket"),
        ("anon_inode:[eventpoll]", "epoll"),
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
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    format!("{what} {target}")
}

//! Collects the open files of a tree: its descriptor tables, and which descriptors refer to the
//! same open file description.
//!
//! Only kcmp(2) shows whether two descriptors refer to one description. It is called only for
//! descriptors that agree in everything visible.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use crate::dump::objects::ObjectCollector;
use crate::error::{Error, Result};
use crate::file::fd_table::{FdTable, TABLE};
use crate::file::{FD_STATES, KINDS, unsupported_name};
use crate::image::frame::Record;
use crate::kind::fd_state::{Named, ObservedFd};
use crate::kind::object::ObjectContents;
use crate::kind::observed::{NOT_KEPT, ObservedFile, Via};
use crate::kind::refs::FileIds;
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;
use crate::sys::proc::status::Fields;

/// The open files of a tree.
pub struct CollectedFiles {
    /// The objects that descriptions share, with contents, in the order of the ids.
    pub objects: Vec<(Record, Option<ObjectContents>)>,
    /// The descriptions, in the order of their ids.
    pub files: Vec<Record>,
    /// The state of descriptors beyond their open files. These records refer to the tables.
    pub fd_states: Vec<Record>,
}

/// Collects the open files of a tree, each description once.
pub struct FileCollector {
    objects: ObjectCollector,
    /// The descriptions, in the order of their ids.
    files: Vec<Record>,
    /// Descriptions by their visible properties. Each has the first descriptor that led to it, and
    /// its id.
    by_sight: BTreeMap<Visible, Vec<(Pid, i32, u32)>>,
    /// Files that mappings and other records refer to, by device, inode, flags and whether they
    /// must not change.
    by_reference: BTreeMap<(u64, u64, i32, bool), u32>,
    /// Which descriptions each process has.
    held: BTreeSet<(Pid, u32)>,
    fd_states: Vec<Record>,
    /// The tasks that must be in the tree, each with the error for its absence.
    named: Vec<(Named, Error)>,
}

/// The properties of a description that are visible without kcmp(2).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Visible {
    dev: u64,
    ino: u64,
    position: u64,
    flags: i32,
}

impl FileCollector {
    /// `tree` holds the pids of all processes of the tree, which are stopped.
    pub fn of(tree: Vec<Pid>) -> Self {
        Self {
            objects: ObjectCollector::of(tree),
            files: Vec::new(),
            by_sight: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            held: BTreeSet::new(),
            fd_states: Vec::new(),
            named: Vec::new(),
        }
    }

    /// See [`ObjectCollector::settle`].
    pub fn settle(&mut self) -> Result<()> {
        self.objects.settle()
    }

    /// All that was found.
    ///
    /// # Errors
    /// A record names a task that `is_known` does not accept. Its signal would go to a process
    /// outside the tree.
    pub fn into_records(self, is_known: impl Fn(Named) -> bool) -> Result<CollectedFiles> {
        if let Some((_, refused)) = self.named.into_iter().find(|(task, _)| !is_known(*task)) {
            return Err(refused);
        }
        Ok(CollectedFiles { objects: self.objects.into_records(), files: self.files, fd_states: self.fd_states })
    }

    /// Records all descriptors of `pid`, a process or a thread with a table of its own.
    /// `representative` is a thread of it that has not ended.
    pub fn table(&mut self, pid: Pid, representative: Pid) -> Result<Record> {
        let pidfd = PidFd::of_thread(representative)?;
        let mut fds = Vec::new();
        for number in proc::numbers(&format!("/proc/{representative}/fd"))? {
            let (id, cloexec) = self.descriptor(pid, representative, &pidfd, number)?;
            fds.push((number, id, cloexec));
        }
        Record::new(TABLE, &FdTable { tid: pid, fds })
    }

    /// Records one descriptor of the table that is recorded as `pid`'s. The kernel is asked about
    /// `representative`, because a thread that has ended has no descriptors.
    fn descriptor(&mut self, pid: Pid, representative: Pid, pidfd: &PidFd, number: i32) -> Result<(u32, bool)> {
        let subject = format!("pid {pid} fd {number}");
        let text = proc::read_text(&format!("/proc/{representative}/fdinfo/{number}"))?;
        let info = Fields::parse(&text);
        let all_flags = info.octal("flags") as i32;
        let cloexec = all_flags & libc::O_CLOEXEC != 0;
        let flags = all_flags & !(NOT_KEPT & !libc::O_NOFOLLOW);
        let position = info.number("pos");
        let link = format!("/proc/{representative}/fd/{number}");
        let mut file = ObservedFile::observe(subject, &link, Via::Descriptor(pidfd, number))?;
        (file.flags, file.position, file.info) = (flags, position, info);
        if !(file.stat.is_file() || file.stat.is_dir()) {
            // O_ASYNC takes effect only when F_SETFL sets it anew. Files and directories send no
            // such signals, and keep the flag as it is.
            file.flags &= !libc::O_ASYNC;
        }
        let visible = Visible { dev: file.stat.dev(), ino: file.stat.ino(), position, flags };
        let known = self.known(&visible, representative, number)?;
        let id = known.map_or_else(|| self.add(&file), Ok)?;
        let is_known_here = !self.held.insert((pid, id));
        let observed =
            ObservedFd { file: &file, flags: all_flags, info: &text, is_known: known.is_some(), is_known_here };
        for kind in FD_STATES {
            for (record, named) in kind.dump(pid, number, &observed)? {
                self.fd_states.push(record);
                let refusal = |task| file.refuse(format_args!("{}: {task:?}, not in the tree,", file.target.display()));
                self.named.extend(named.map(|task| (task, refusal(task))));
            }
        }
        if known.is_none() {
            self.by_sight.entry(visible).or_default().push((representative, number, id));
        }
        Ok((id, cloexec))
    }

    /// The description, if another descriptor has led to it before.
    fn known(&self, visible: &Visible, representative: Pid, number: i32) -> Result<Option<u32>> {
        for &(other_task, other, id) in self.by_sight.get(visible).map_or(&[][..], Vec::as_slice) {
            if kcmp::kcmp(other_task, representative, Kcmp::File, other as u64, number as u64)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Adds a new description.
    fn add(&mut self, observed: &ObservedFile<'_>) -> Result<u32> {
        let kind = KINDS.iter().find(|kind| kind.takes(observed));
        let kind = kind.ok_or_else(|| observed.refuse(unsupported_name(observed)))?;
        let id = self.files.len() as u32;
        self.files.push(kind.dump(id, observed, &mut self.objects)?);
        Ok(id)
    }
}

impl FileIds for FileCollector {
    fn id_of(&mut self, link: &str, flags: i32, must_not_change: bool, subject: &str) -> Result<u32> {
        let mut observed = ObservedFile::observe(subject.to_owned(), link, Via::Link(link))?;
        (observed.flags, observed.must_not_change) = (flags, must_not_change);
        if !(observed.stat.is_file() || observed.stat.is_dir() || KINDS.iter().any(|kind| kind.is_mappable(&observed)))
        {
            return Err(observed.refuse(format_args!("mapping of {}", observed.target.display())));
        }
        let key = (observed.stat.dev(), observed.stat.ino(), flags, must_not_change);
        if let Some(id) = self.by_reference.get(&key) {
            return Ok(*id);
        }
        let id = self.add(&observed)?;
        self.by_reference.insert(key, id);
        Ok(id)
    }
}

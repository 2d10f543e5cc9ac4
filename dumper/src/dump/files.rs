//! Collects the open files of a tree: its descriptor tables, and which descriptors refer to the
//! same open file description.
//!
//! Only kcmp(2) shows whether two descriptors refer to one description. It is called only for
//! descriptors of one file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::dump::kcmp_set::KcmpSet;
use crate::dump::objects::{CollectedObject, ObjectCollector};
use crate::error::{Error, Result};
use crate::file::fd_table::{FdTable, TABLE};
use crate::file::{FD_STATES, KINDS, RELATIONS, unsupported_name};
use crate::freeze::bound::StopBound;
use crate::image::frame::Record;
use crate::kind::fd_state::{Named, ObservedFd};
use crate::kind::observed::{OPENING, ObservedFile, Via};
use crate::kind::open_file;
use crate::kind::refs::FileIds;
use crate::kind::relation::{Descriptions, Order, Relating, Wanted};
use crate::kind::unnoticed::Unnoticed;
use crate::memory::vma::{Type, Vma};
use crate::pstree::record::Tree;
use crate::refusals::Refusals;
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;
use crate::sys::proc::status::Fields;
use crate::sys::remote::batch::Batch;
use crate::sys::remote::inject::Injected;

/// The open files of a tree.
pub struct CollectedFiles {
    /// The objects that descriptions share, with contents, in the order of the ids.
    pub objects: Vec<CollectedObject>,
    /// The file of their large blobs.
    pub spool: Option<File>,
    /// The descriptions, in the order of their ids.
    pub files: Vec<Record>,
    /// The state of descriptors beyond their open files. These records refer to the tables.
    pub fd_states: Vec<Record>,
    /// What the descriptions have to do with each other.
    pub relations: Vec<Record>,
    /// Why some contents are not for the user of the tree, as sentences.
    pub unreadable: Vec<String>,
}

/// Collects the open files of a tree, each description once.
pub struct FileCollector {
    objects: ObjectCollector,
    /// The descriptions, in the order of their ids.
    files: Vec<Record>,
    /// Descriptions by the device and inode of their file.
    by_inode: BTreeMap<(u64, u64), KcmpSet<Description>>,
    /// Files that mappings and other records refer to, by device, inode, flags and whether they
    /// must not change.
    by_reference: BTreeMap<(u64, u64, i32, bool), u32>,
    /// Which descriptions each process has.
    held: BTreeSet<(Pid, u32)>,
    fd_states: Vec<Record>,
    /// Descriptors of descriptions that may have relations.
    relating: Vec<Description>,
    relations: Vec<Record>,
    /// Which description each descriptor is.
    numbers: HashMap<(Pid, i32), u32>,
    /// Files that cannot be checkpointed, by device and inode.
    refused: BTreeSet<(u64, u64)>,
    /// The tasks that must be in the tree, each with the error for its absence.
    named: Vec<(Named, Error)>,
    bound: StopBound,
}

/// A description: the first descriptor that led to it, and its id.
#[derive(Clone, Copy)]
struct Description {
    /// The process, or thread, in whose table it is.
    tid: Pid,
    task: Pid,
    number: i32,
    id: u32,
}

impl FileCollector {
    /// `tree` holds the pids of all processes of the tree, which are stopped within `bound`.
    pub fn of(tree: BTreeSet<Pid>, bound: StopBound) -> Self {
        Self {
            objects: ObjectCollector::of(tree),
            files: Vec::new(),
            by_inode: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            held: BTreeSet::new(),
            fd_states: Vec::new(),
            relating: Vec::new(),
            relations: Vec::new(),
            numbers: HashMap::new(),
            refused: BTreeSet::new(),
            named: Vec::new(),
            bound,
        }
    }

    /// The same for processes that may run: what cannot be checkpointed is refused, and no object
    /// is recorded.
    pub fn that_checks(tree: BTreeSet<Pid>, bound: StopBound) -> Self {
        Self { objects: ObjectCollector::that_checks(tree.clone()), ..Self::of(tree, bound) }
    }

    /// The states of descriptors so far.
    pub fn fd_states(&self) -> &[Record] {
        &self.fd_states
    }

    /// Adds what takes time to find, so it runs when the tree runs again. `vmas` are all mappings
    /// of the tree. See [`ObjectCollector::settle`].
    pub fn settle<'v>(&mut self, vmas: impl Iterator<Item = &'v Vma>) -> Result<()> {
        self.objects.settle()?;
        let mut mapped: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for vma in vmas.filter(|vma| vma.kind == Type::File) {
            let Some(id) = vma.file else { continue };
            mapped.entry(id).or_default().push((vma.offset, vma.len()));
        }
        let files = Unnoticed::local()?;
        for (id, mapped) in mapped {
            let Some(record) = self.files.get_mut(id as usize) else { continue };
            let (_, name) = open_file::id_and_kind(record)?;
            if let Some(kind) = KINDS.iter().find(|kind| kind.kind() == name) {
                *record = kind.settle(record, &mapped, &files)?;
            }
        }
        Ok(())
    }

    /// Refuses a record that names a task outside the tree, because its signal would go there.
    pub fn refuse_strangers(&mut self, tree: &Tree, refusals: &mut Refusals) -> Result<()> {
        let mut tasks = BTreeSet::new();
        for process in &tree.processes {
            tasks.extend(process.threads.iter().map(|tid| Named::Task(*tid)));
            // A group is made by its leader, even by one that has ended since.
            tasks.insert(Named::Group(process.pid));
            tasks.extend(Some(Named::Process(process.pid)).filter(|_| !process.is_placeholder()));
        }
        let mut named = self.named.drain(..).filter(|(task, _)| !tasks.contains(task));
        named.try_for_each(|(_, refused)| refusals.refuse(refused))
    }

    /// All that was found.
    pub fn into_records(self) -> CollectedFiles {
        let unreadable = self.objects.unreadable();
        let (objects, spool) = self.objects.into_records();
        let Self { files, fd_states, relations, .. } = self;
        CollectedFiles { objects, spool, files, fd_states, relations, unreadable }
    }

    /// Records all descriptors of `pid`, a process or a thread with a table of its own. A thread
    /// with that table is inside the stub.
    pub fn table(&mut self, pid: Pid, injected: &mut Injected<'_>) -> Result<Record> {
        let representative = injected.task()?.tid();
        let mut duplicates = Vec::new();
        let mut fds = self.descriptors(pid, representative, &mut duplicates, &mut Refusals::first())?;
        let numbers: Vec<i32> = duplicates.iter().map(|at| fds[*at].0).collect();
        for (at, cloexec) in duplicates.into_iter().zip(cloexec(pid, &numbers, injected)?) {
            fds[at].2 = cloexec;
        }
        Record::new(TABLE, &FdTable { tid: pid, fds })
    }

    /// Examines the same descriptors of a process that may run, through a thread of it.
    pub fn check_table(&mut self, pid: Pid, representative: Pid, refusals: &mut Refusals) -> Result<()> {
        self.descriptors(pid, representative, &mut Vec::new(), refusals).map(drop)
    }

    /// The descriptors of a table. Of `duplicates`, by their place, it is not known whether
    /// execve(2) closes them.
    fn descriptors(
        &mut self,
        pid: Pid,
        representative: Pid,
        duplicates: &mut Vec<usize>,
        refusals: &mut Refusals,
    ) -> Result<Vec<(i32, u32, bool)>> {
        let pidfd = PidFd::of_thread(representative)?;
        let mut fds = Vec::new();
        for number in proc::numbers(&format!("/proc/{representative}/fd"))? {
            self.bound.check(|| format!("pid {pid} fd {number}"))?;
            let found = self.descriptor(pid, representative, &pidfd, number, refusals);
            let Some(Some((id, cloexec))) = refusals.sift(found)? else { continue };
            if cloexec.is_none() {
                duplicates.push(fds.len());
            }
            fds.push((number, id, cloexec.unwrap_or(false)));
            self.numbers.insert((representative, number), id);
        }
        Ok(fds)
    }

    /// Records one descriptor of the table that is recorded as `pid`'s. `None` if its open file is
    /// refused. The kernel is asked about `representative`, because a thread that has ended has no
    /// descriptors.
    ///
    /// Returns the id, and whether it is closed on exec. This is `None` for a duplicate: its
    /// `fdinfo` lists all locks of the description once more.
    fn descriptor(
        &mut self,
        pid: Pid,
        representative: Pid,
        pidfd: &PidFd,
        number: i32,
        refusals: &mut Refusals,
    ) -> Result<Option<(u32, Option<bool>)>> {
        let subject = format!("pid {pid} fd {number}");
        let link = format!("/proc/{representative}/fd/{number}");
        let mut file = ObservedFile::observe(subject, &link, Via::Descriptor(pidfd, number))?;
        let inode = (file.stat.dev(), file.stat.ino());
        // One of the two may end, or close its descriptor, while a check compares them.
        let found =
            self.by_inode.entry(inode).or_default().find(|other| {
                kcmp::kcmp_order(other.task, representative, Kcmp::File, other.number as u64, number as u64)
            });
        let (known, place) = match refusals.sift_of_several(found)? {
            Some(Ok(description)) => (Some(description.id), None),
            Some(Err(place)) => (None, Some(place)),
            None => return Ok(None),
        };
        if let Some(id) = known.filter(|id| self.held.contains(&(pid, *id))) {
            return Ok(Some((id, None)));
        }
        let text = proc::read_text(&format!("/proc/{representative}/fdinfo/{number}"))?;
        let info = Fields::parse(&text);
        let all_flags = info.octal("flags") as i32;
        let cloexec = all_flags & libc::O_CLOEXEC != 0;
        file.flags = all_flags & !OPENING;
        (file.position, file.info) = (info.number("pos"), info);
        if !(file.stat.is_file() || file.stat.is_dir()) {
            // O_ASYNC takes effect only when F_SETFL sets it anew. Files and directories send no
            // such signals, and keep the flag as it is.
            file.flags &= !libc::O_ASYNC;
        }
        let id = known.map_or_else(|| self.add(&file), Ok);
        let Some(id) = refusals.sift(id)? else {
            self.refused.insert(inode);
            return Ok(None);
        };
        self.held.insert((pid, id));
        let observed = ObservedFd { file: &file, flags: all_flags, info: &text, is_known: known.is_some() };
        for kind in FD_STATES {
            for (record, named) in refusals.sift(kind.dump(pid, number, &observed))?.into_iter().flatten() {
                self.fd_states.push(record);
                let refusal = |task| file.refuse(format_args!("{}: {task:?}, not in the tree,", file.target.display()));
                self.named.extend(named.map(|task| (task, refusal(task))));
            }
        }
        if let Some(place) = place {
            let description = Description { tid: pid, task: representative, number, id };
            if RELATIONS.iter().any(|kind| kind.takes(&file)) {
                self.relating.push(description);
            }
            self.by_inode.entry(inode).or_default().insert(place, description);
        }
        Ok(Some((id, Some(cloexec))))
    }

    /// Records what descriptions have to do with each other. All descriptors are known, and their
    /// processes are still stopped.
    pub fn relate(&mut self, refusals: &mut Refusals) -> Result<()> {
        for Description { tid, task, number, id } in std::mem::take(&mut self.relating) {
            let (subject, link) = (format!("pid {tid} fd {number}"), format!("/proc/{task}/fd/{number}"));
            self.bound.check(|| subject.clone())?;
            let pidfd = PidFd::of_thread(task)?;
            let observed = ObservedFile::observe(subject, &link, Via::Descriptor(&pidfd, number));
            let Some(file) = refusals.sift(observed)? else { continue };
            for kind in RELATIONS.iter().filter(|kind| kind.takes(&file)) {
                let relating = Relating { file: &file, tid, task, number };
                let found = kind.dump(id, &relating, self);
                self.relations.extend(refusals.sift_of_several(found)?.into_iter().flatten());
            }
        }
        Ok(())
    }

    /// The id of a file that no descriptor of the tree leads to, added at the first reference.
    fn refer_to(&mut self, observed: &ObservedFile<'_>) -> Result<u32> {
        let ObservedFile { stat, flags, must_not_change, .. } = observed;
        let key = (stat.dev(), stat.ino(), *flags, *must_not_change);
        if let Some(id) = self.by_reference.get(&key) {
            return Ok(*id);
        }
        let id = self.add(observed)?;
        self.by_reference.insert(key, id);
        Ok(id)
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

/// Whether each of these descriptors is closed on exec, F_GETFD of fcntl(2).
fn cloexec(pid: Pid, numbers: &[i32], injected: &mut Injected<'_>) -> Result<Vec<bool>> {
    let mut found = Vec::new();
    let mut rest = numbers;
    while !rest.is_empty() {
        let mut batch = Batch::new(injected.scratch());
        let mut asked = Vec::new();
        while let [number, others @ ..] = rest
            && !batch.is_full(1, 0)
        {
            asked.push((number, batch.call(libc::SYS_fcntl, [*number as u64, libc::F_GETFD as u64])));
            rest = others;
        }
        let answers = injected.run(batch)?;
        for (number, ticket) in asked {
            let flags = answers.get(ticket, || format!("pid {pid} fd {number}: F_GETFD"))?;
            found.push(flags & libc::FD_CLOEXEC as u64 != 0);
        }
    }
    Ok(found)
}

impl Descriptions for FileCollector {
    fn find(&self, wanted: &Wanted, order: &mut Order<'_>) -> Result<Option<u32>> {
        let (task, number) = wanted.first;
        self.bound.check(|| format!("pid {task}: files of descriptor {number}"))?;
        let of_inode = self.by_inode.get(&wanted.inode);
        if let Some(id) = self.numbers.get(&wanted.first)
            && order(task, number)?.is_eq()
        {
            return Ok(Some(*id));
        }
        // Overlay filesystems show another device than the kernel has.
        let same = |inode: &(u64, u64)| inode.1 == wanted.inode.1 && *inode != wanted.inode;
        let others = self.by_inode.iter().filter(|(inode, _)| same(inode)).map(|(_, set)| set);
        for set in of_inode.into_iter().chain(others) {
            if let Ok(found) = set.find(|known| order(known.task, known.number))? {
                return Ok(Some(found.id));
            }
        }
        Ok(None)
    }

    fn id_of_name(&mut self, link: &str, subject: &str) -> Result<u32> {
        let mut observed = ObservedFile::observe(subject.to_owned(), link, Via::Link(link))?;
        observed.flags = libc::O_PATH;
        self.refer_to(&observed)
    }

    fn has_refused(&self, inode: (u64, u64)) -> bool {
        self.refused.contains(&inode)
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
        self.refer_to(&observed)
    }
}

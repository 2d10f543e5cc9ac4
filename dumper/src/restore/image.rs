//! An image being restored: records are gathered until processes are needed, which are then filled with memory and files, dressed in
//! their attributes phase by phase, and let go.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::file;
use crate::file::fd_table::{FdTable, TABLE};
use crate::freeze::entry::HOLE_LEN;
use crate::image::frame::{Record, Tag};
use crate::kind::attribute::{RestoredThread, Resume, Scope, tid_of};
use crate::kind::object::{self, RestoreContext, RestoredObject};
use crate::kind::open_file;
use crate::kind::phase::{PHASES, Phase};
use crate::kind::refs::Files;
use crate::memory::vdso::{self, Vdso};
use crate::memory::vma::{self, Vma};
use crate::options::ChangedFiles;
use crate::pstree::record::{self, Process, Share, Tree};
use crate::restore::outcome::Restored;
use crate::restore::process::{NewProcess, TASK_SIZE};
use crate::restore::pstree::NewTree;
use crate::sys::memory::RemotePtr;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc;
use crate::sysv;
use crate::task::cgroup::{self, Membership};
use crate::task::{self, address_space};

/// An image being restored.
pub struct ImageRestore {
    begun: Instant,
    tree: Option<Tree>,
    vdsos: BTreeMap<Pid, Vdso>,
    memberships: BTreeMap<Pid, Membership>,
    tables: BTreeMap<Pid, FdTable>,
    attributes: BTreeMap<(Pid, Tag), Record>,
    objects: RestoredFiles,
    files: OpenFiles,
    /// Semaphores and message queues.
    sysv: Vec<sysv::RestoredIpc>,
    /// What descriptors have beyond their open files.
    late: Vec<Record>,
    /// Open files that are opened when the image has come to its end.
    opened_last: Vec<(u32, &'static dyn open_file::DynOpenFile, Record)>,
    filling: Filling,
    family: Option<NewTree>,
}

/// The objects that open files share, by id, and what else is known of the restore.
#[derive(Default)]
struct RestoredFiles {
    by_id: BTreeMap<u32, (RestoredObject, &'static dyn object::DynObject, Record)>,
    /// Every thread of the tree.
    tasks: BTreeSet<Pid>,
    changed_files: ChangedFiles,
    warnings: RefCell<Vec<String>>,
}

impl RestoreContext for RestoredFiles {
    fn anchor(&self, id: u32) -> Result<&RestoredObject> {
        let object = self.by_id.get(&id).map(|(anchor, ..)| anchor);
        object.ok_or_else(|| Error::damaged(format!("object {id} is not in the image")))
    }

    fn makes(&self, pid: Pid) -> bool {
        self.tasks.contains(&pid)
    }

    fn changed_files(&self) -> ChangedFiles {
        self.changed_files
    }

    fn warn(&self, sentence: String) {
        log::warn!("{sentence}");
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&sentence) {
            warnings.push(sentence);
        }
    }
}

/// What the pages that come now belong to.
#[derive(Clone, Copy)]
enum Filling {
    Nothing,
    Object(u32),
    Mapping(Pid),
}

/// The open files of the image, by id.
#[derive(Default)]
struct OpenFiles(BTreeMap<u32, OwnedFd>);

impl Files for OpenFiles {
    fn fd(&self, id: u32) -> Result<RawFd> {
        self.0
            .get(&id)
            .map(AsRawFd::as_raw_fd)
            .ok_or_else(|| Error::damaged(format!("open file {id} is not in the image")))
    }
}

impl ImageRestore {
    /// Nothing is made before the first record that needs a process.
    pub fn new(begun: Instant, changed_files: ChangedFiles) -> Self {
        Self {
            begun,
            tree: None,
            vdsos: BTreeMap::new(),
            memberships: BTreeMap::new(),
            tables: BTreeMap::new(),
            attributes: BTreeMap::new(),
            objects: RestoredFiles { changed_files, ..RestoredFiles::default() },
            files: OpenFiles::default(),
            sysv: Vec::new(),
            late: Vec::new(),
            opened_last: Vec::new(),
            filling: Filling::Nothing,
            family: None,
        }
    }

    /// The next record, in the order tree, tasks, open files, memory.
    pub fn record(&mut self, record: Record) -> Result<()> {
        self.filling = Filling::Nothing;
        match record.tag {
            record::TAG if self.tree.is_none() => {
                let tree = Tree::parse(&record)?;
                self.objects.tasks =
                    tree.processes.iter().flat_map(|process| process.threads.iter().copied()).collect();
                self.tree = Some(tree);
            }
            vdso::TAG => {
                let vdso: Vdso = record.body()?;
                let tid = vdso.tid;
                if !self.objects.tasks.contains(&tid) || self.vdsos.insert(tid, vdso).is_some() {
                    return Err(Error::damaged(format!("record {} of task {tid} is not wanted", vdso::TAG)));
                }
            }
            cgroup::TAG => {
                let membership: Membership = record.body()?;
                let tid = membership.tid;
                if !self.objects.tasks.contains(&tid) || self.memberships.insert(tid, membership).is_some() {
                    return Err(Error::damaged(format!("record {} of task {tid} is not wanted", cgroup::TAG)));
                }
            }
            tag if task::KINDS.iter().any(|kind| kind.tag() == tag) => {
                let tid = tid_of(&record)?;
                if !self.objects.tasks.contains(&tid) {
                    return Err(Error::damaged(format!("record {tag} of task {tid}, which is not in the tree")));
                }
                if self.attributes.insert((tid, tag), record).is_some() {
                    return Err(Error::damaged(format!("record {tag} occurs twice for one task")));
                }
            }
            object::TAG => {
                let (id, name) = open_file::id_and_kind(&record)?;
                let kind = file::OBJECTS.iter().find(|kind| kind.kind() == name);
                let kind = *kind.ok_or_else(|| Error::damaged(format!("object {id}: unknown kind {name}")))?;
                let anchor = kind.make(&record)?;
                self.objects.by_id.insert(id, (anchor, kind, record));
                self.filling = Filling::Object(id);
            }
            open_file::TAG => {
                let (id, name) = open_file::id_and_kind(&record)?;
                let kind = file::KINDS.iter().find(|kind| kind.kind() == name);
                let kind = kind.ok_or_else(|| Error::damaged(format!("open file {id}: unknown kind {name}")))?;
                if kind.opens_last() {
                    self.opened_last.push((id, *kind, record));
                } else {
                    self.files.0.insert(id, kind.restore(&record, &self.objects)?);
                }
            }
            TABLE => {
                let table: FdTable = record.body()?;
                let tid = table.tid;
                if !self.objects.tasks.contains(&tid) || self.tables.insert(tid, table).is_some() {
                    return Err(Error::damaged(format!("record {TABLE} of task {tid} is not wanted")));
                }
            }
            tag if file::LATE.iter().any(|kind| kind.tag() == tag) => {
                let tid = tid_of(&record)?;
                if !self.tables.contains_key(&tid) {
                    return Err(Error::damaged(format!("record {tag} of task {tid}, which has no descriptors")));
                }
                self.late.push(record);
            }
            vma::TAG => {
                let vma = Vma::parse(&record)?;
                let pid = vma.tid;
                if !self.tree()?.processes.iter().any(|process| process.pid == pid && !process.threads.is_empty()) {
                    return Err(Error::damaged(format!("mapping of pid {pid}, which is not in the tree")));
                }
                self.begin()?;
                if let Some(family) = &mut self.family {
                    family.make_until(pid, &self.vdsos)?.map(vma, &self.files)?;
                }
                self.filling = Filling::Mapping(pid);
            }
            tag if sysv::is_known(tag) => {
                if let Some(object) = sysv::RestoredIpc::make(&record).transpose()? {
                    object.warning().into_iter().for_each(|sentence| self.objects.warn(sentence));
                    self.sysv.push(object);
                }
            }
            _ if record.optional => {}
            tag => return Err(Error::damaged(format!("record {tag} is not known here, or not in its place"))),
        }
        Ok(())
    }

    /// Pages of the mapping or object that came last.
    pub fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let made = match (self.filling, &mut self.family) {
            (Filling::Object(id), _) => return self.objects.anchor(id)?.fill(address, bytes),
            (Filling::Mapping(pid), Some(family)) => family.of(pid)?,
            _ => return Err(Error::damaged("pages without a mapping")),
        };
        made.calls.flush(&mut made.leader)?;
        let vma = made.vmas.last().ok_or_else(|| Error::damaged("pages without a mapping"))?;
        let inside = address >= vma.start && address.checked_add(bytes.len() as u64).is_some_and(|end| end <= vma.end);
        if !inside || vma.pages == 0 || !vma.holds_pages() {
            return Err(Error::damaged(format!("pages at {address:#x} outside mapping {:x}-{:x}", vma.start, vma.end)));
        }
        made.leader.mem().fill(RemotePtr(address), bytes)
    }

    fn tree(&self) -> Result<&Tree> {
        self.tree.as_ref().ok_or_else(|| Error::damaged("the image does not begin with its tree"))
    }

    /// Makes ready to create processes, once the records of their tasks are there.
    fn begin(&mut self) -> Result<()> {
        if self.family.is_some() {
            return Ok(());
        }
        let tree = self.tree()?.clone();
        let root = tree.processes.first().map_or(0, |root| root.pid);
        let speaker = tree.processes.first().map_or(0, Process::representative);
        let record = self.attributes.get(&(speaker, address_space::TAG));
        let hole =
            address_space::hole(record.ok_or_else(|| Error::damaged(format!("pid {root}: record MMAP is missing")))?)?;
        if !hole.0.is_multiple_of(4096) || hole.0 < 0x1_0000 || hole.0 > TASK_SIZE - HOLE_LEN {
            return Err(Error::damaged(format!("pid {root}: no room at {hole}")));
        }
        self.family = Some(NewTree::new(tree, std::mem::take(&mut self.memberships), hole));
        Ok(())
    }

    /// The trailer is verified: dresses the processes and lets them go. Their roots are to be reaped by this thread.
    pub fn finish(mut self, total: u64) -> Result<(Restored, Vec<PidFd>)> {
        self.begin()?;
        let ImageRestore {
            begun,
            attributes,
            mut files,
            mut sysv,
            late,
            opened_last,
            mut objects,
            tables,
            vdsos,
            family,
            ..
        } = self;
        // Declared last, dropped first: it kills.
        let mut family = family.ok_or_else(|| Error::damaged("an image without a process"))?;
        family.make_rest(&vdsos)?;
        let processes: Vec<Process> = family.tree().processes.clone();
        family.arrange()?;
        family.bury()?;
        let alive = || processes.iter().filter(|process| !process.threads.is_empty());
        for process in alive() {
            let made = family.of(process.pid)?;
            made.finish_memory()?;
            made.make_threads(process)?;
        }
        for (anchor, kind, record) in objects.by_id.values_mut() {
            kind.appear(record, anchor)?;
        }
        for (id, kind, record) in opened_last {
            files.0.insert(id, kind.restore(&record, &objects)?);
        }
        // Each is let go here: what is still open for writing cannot become the executable.
        let mut made = Vec::new();
        for (mut anchor, kind, record) in objects.by_id.into_values() {
            made.extend(anchor.made.take());
            kind.finish(&record, &anchor)?;
        }
        for process in alive() {
            let own = process.own.iter().filter(|(_, what)| *what == Share::Files).map(|(tid, _)| *tid);
            let of_process = (!process.shares(Share::Files)).then_some(process.pid);
            for tid in of_process.into_iter().chain(own) {
                let table = tables.get(&tid);
                let table = table.ok_or_else(|| Error::damaged(format!("task {tid}: record {TABLE} is missing")))?;
                family.of(process.pid)?.place(table, &files)?;
            }
        }
        let mut resume: BTreeMap<Pid, Vec<Resume>> = BTreeMap::new();
        for phase in PHASES {
            if phase == Phase::Credentials {
                // Nobody opens or closes a file any more, which would cost a process its locks; the right to take them is still there.
                put_back_late(&mut family, &late)?;
                for object in std::mem::take(&mut sysv) {
                    made.extend(object.finish(&mut family)?);
                }
            }
            for process in alive() {
                let made = family.of(process.pid)?;
                if phase == Phase::Resume {
                    made.close_helpers(process.shares(Share::Files))?;
                }
                let last = dress(made, process, phase, &attributes, &files)?;
                resume.entry(process.pid).or_default().extend(last);
            }
        }
        family.verify()?;
        // An end of a pipe that is held here would keep the other from noticing that nobody is there.
        drop(files);
        let roots = family.roots()?;
        family.let_go(resume)?;
        made.into_iter().for_each(sysvipc::CreatedIpc::keep);
        let pids: Vec<Pid> =
            processes.iter().filter(|process| !process.is_placeholder()).map(|process| process.pid).collect();
        let root = pids.first().copied().unwrap_or(0);
        let warnings = objects.warnings.take();
        Ok((Restored { root, pids, bytes: total, elapsed: begun.elapsed(), warnings }, roots))
    }
}

/// Puts back what descriptors have beyond their open files, kind by kind.
fn put_back_late(family: &mut NewTree, late: &[Record]) -> Result<()> {
    for kind in file::LATE {
        for record in late.iter().filter(|record| record.tag == kind.tag()) {
            let tid = tid_of(record)?;
            let (owned, _) = family.task(tid)?;
            let mut calls = Checked::new(owned.scratch());
            kind.restore(record, &mut calls)?;
            calls.flush(owned)?;
        }
    }
    Ok(())
}

/// One phase of one process; how its threads go on, in the last.
fn dress(
    made: &mut NewProcess,
    process: &Process,
    phase: Phase,
    attributes: &BTreeMap<(Pid, Tag), Record>,
    files: &OpenFiles,
) -> Result<Vec<Resume>> {
    let mut last = Vec::new();
    let syscall = made.syscall;
    for tid in process.threads.iter().copied() {
        let has_ended = tid == process.pid && process.leader_ended.is_some();
        if let (true, Some(ended), Phase::Resume) = (has_ended, &process.leader_ended, phase) {
            last.push(made.end_of_leader(ended)?);
            continue;
        }
        let (owned, channel) = made.task(tid)?;
        let mut resume = Resume::default();
        let mut batch = Checked::new(owned.scratch());
        let mut make = RestoredThread {
            pid: process.pid,
            tid,
            owned,
            files,
            channel,
            borrows_memory: process.shares(Share::Vm),
            syscall,
            batch: &mut batch,
            resume: &mut resume,
        };
        for kind in task::KINDS.iter().filter(|kind| kind.phase() == phase) {
            // What belongs to the process is put back through its leader, even if that is about to end; whoever spoke has told it.
            let through_leader = tid == process.pid;
            let told_by = match kind.scope() {
                Scope::Process if through_leader => process.representative(),
                Scope::Directories if through_leader => process.representative(),
                Scope::Directories if process.owns(tid, Share::Fs) => tid,
                Scope::Thread if !has_ended => tid,
                // Whoever sends a signal to the process is held against its leader's.
                Scope::Thread if phase == Phase::Credentials => process.representative(),
                _ => continue,
            };
            let record = attributes.get(&(told_by, kind.tag()));
            let record = record.ok_or_else(|| {
                Error::damaged(format!("pid {} task {tid}: record {} is missing", process.pid, kind.tag()))
            })?;
            kind.restore(record, &mut make)?;
            if make.batch.is_full(16 << 10) {
                make.flush()?;
            }
        }
        make.flush()?;
        if phase == Phase::Resume {
            last.push(resume);
        }
    }
    Ok(last)
}

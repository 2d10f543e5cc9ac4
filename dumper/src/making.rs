//! An image being restored: records are gathered until a process is needed, which is then filled with files and memory,
//! dressed in its attributes phase by phase, and let go.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::door::HOLE_LEN;
use crate::file::object::{self, Anchor, Anchors};
use crate::file::sharing::{TABLE, Table};
use crate::file::{self, open_file};
use crate::image::{Record, Tag};
use crate::made::{Made, TASK_SIZE};
use crate::restore::Restored;
use crate::sys::memory::RemotePtr;
use crate::task::attribute::{Checked, Files, Make, PHASES, Phase, Resume, Scope, tid_of};
use crate::task::tree::{self, Process, Tree};
use crate::task::vdso::{self, Vdso};
use crate::task::vma::{self, Vma};
use crate::task::{self, mm};
use crate::{Error, Pid, Result};

/// An image being restored.
pub struct Making {
    begun: Instant,
    tree: Option<Tree>,
    /// Every thread of the tree.
    tasks: BTreeSet<Pid>,
    vdso: Option<Vdso>,
    attributes: BTreeMap<(Pid, Tag), Record>,
    objects: Shared,
    files: OpenFiles,
    filling: Filling,
    made: Option<Made>,
}

/// The objects that open files share, by id.
#[derive(Default)]
struct Shared(BTreeMap<u32, (Anchor, &'static dyn object::Row, Record)>);

impl Anchors for Shared {
    fn anchor(&self, id: u32) -> Result<&Anchor> {
        let object = self.0.get(&id).map(|(anchor, ..)| anchor);
        object.ok_or_else(|| Error::damaged(format!("object {id} is not in the image")))
    }
}

/// What the pages that come now belong to.
#[derive(Clone, Copy)]
enum Filling {
    Nothing,
    Object(u32),
    Mapping,
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

impl Making {
    /// Nothing is made before the first record that needs a process.
    pub fn new(begun: Instant) -> Self {
        Self {
            begun,
            tree: None,
            tasks: BTreeSet::new(),
            vdso: None,
            attributes: BTreeMap::new(),
            objects: Shared::default(),
            files: OpenFiles::default(),
            filling: Filling::Nothing,
            made: None,
        }
    }

    /// The next record, in the order tree, tasks, open files, memory.
    pub fn record(&mut self, record: Record) -> Result<()> {
        self.filling = Filling::Nothing;
        match record.tag {
            tree::TAG if self.tree.is_none() => {
                let tree = Tree::parse(&record)?;
                self.tasks = tree.processes.iter().flat_map(|process| process.threads.iter().copied()).collect();
                self.tree = Some(tree);
            }
            vdso::TAG if self.vdso.is_none() => self.vdso = Some(record.body()?),
            tag if task::KINDS.iter().any(|kind| kind.tag() == tag) => {
                let tid = tid_of(&record)?;
                if !self.tasks.contains(&tid) {
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
                self.objects.0.insert(id, (anchor, kind, record));
                self.filling = Filling::Object(id);
            }
            open_file::TAG => {
                let (id, name) = open_file::id_and_kind(&record)?;
                let kind = file::KINDS.iter().find(|kind| kind.kind() == name);
                let kind = kind.ok_or_else(|| Error::damaged(format!("open file {id}: unknown kind {name}")))?;
                self.files.0.insert(id, kind.restore(&record, &self.objects)?);
            }
            TABLE => {
                let table: Table = record.body()?;
                self.begin()?;
                if let Some(made) = &mut self.made {
                    made.place(&table, &self.files)?;
                }
            }
            vma::TAG => {
                let vma = Vma::parse(&record)?;
                self.begin()?;
                if let Some(made) = &mut self.made {
                    made.map(vma, &self.files)?;
                }
                self.filling = Filling::Mapping;
            }
            _ if record.optional => {}
            tag => return Err(Error::damaged(format!("record {tag} is not known here, or not in its place"))),
        }
        Ok(())
    }

    /// Pages of the mapping or object that came last.
    pub fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let made = match (self.filling, &mut self.made) {
            (Filling::Object(id), _) => return self.objects.anchor(id)?.fill(address, bytes),
            (Filling::Mapping, Some(made)) => made,
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

    fn process(&self) -> Result<&Process> {
        let first = self.tree.as_ref().and_then(|tree| tree.processes.first());
        first.ok_or_else(|| Error::damaged("the image does not begin with its tree"))
    }

    /// Creates the process, once the records of its tasks are there.
    fn begin(&mut self) -> Result<()> {
        if self.made.is_some() {
            return Ok(());
        }
        let process = self.process()?.clone();
        let missing = |tag: &str| Error::damaged(format!("pid {}: record {tag} is missing", process.pid));
        let vdso = self.vdso.clone().ok_or_else(|| missing("VDSO"))?;
        let hole = mm::hole(self.attributes.get(&(process.pid, mm::TAG)).ok_or_else(|| missing("MMAP"))?)?;
        if !hole.0.is_multiple_of(4096) || hole.0 < 0x1_0000 || hole.0 > TASK_SIZE - HOLE_LEN {
            return Err(Error::damaged(format!("pid {}: no room at {hole}", process.pid)));
        }
        self.made = Some(Made::create(&process, &vdso, hole)?);
        Ok(())
    }

    /// The trailer is verified: dresses the process and lets it go.
    pub fn finish(mut self, total: u64) -> Result<Restored> {
        self.begin()?;
        let process = self.process()?.clone();
        let Making { begun, attributes, files, objects, made, .. } = self;
        let mut made = made.ok_or_else(|| Error::damaged("an image without a process"))?;
        made.finish_memory()?;
        for (anchor, kind, record) in objects.0.values() {
            kind.finish(record, anchor)?;
        }
        let mut threads = made.threads(&process)?;
        let mut last = Vec::new();
        for phase in PHASES {
            if phase == Phase::Resume {
                made.close_helpers()?;
            }
            for at in 0..process.threads.len() {
                let tid = process.threads[at];
                let owned = if at == 0 { &mut made.leader } else { &mut threads[at - 1] };
                let mut resume = Resume::default();
                let mut batch = Checked::new(owned.scratch());
                let mut make = Make {
                    pid: process.pid,
                    tid,
                    owned,
                    files: &files,
                    channel: &made.channel,
                    syscall: made.syscall,
                    batch: &mut batch,
                    resume: &mut resume,
                };
                for kind in task::KINDS.iter().filter(|kind| kind.phase() == phase) {
                    if at != 0 && kind.scope() == Scope::Process {
                        continue;
                    }
                    let record = attributes.get(&(tid, kind.tag()));
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
        }
        made.let_go(&process, threads, last)?;
        Ok(Restored { root: process.pid, pids: vec![process.pid], bytes: total, elapsed: begun.elapsed() })
    }
}

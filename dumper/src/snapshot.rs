//! The instant: a copy-on-write child and its page set, told as an image whose every offset is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cgroup;
use crate::child::{self, Child};
use crate::door::{self, Door, Premise};
use crate::dump::{self, Looked, LookedProcess};
use crate::file::late::Named;
use crate::file::sharing::{Collected, Collector};
use crate::freeze::{self, Frozen};
use crate::heritage;
use crate::image::{LayoutBuilder, Record};
use crate::instant::Instant;
use crate::kin;
use crate::pages::{Kept, Source, Sources};
use crate::stream::{Piece, Stream};
use crate::sys::memory::MemFile;
use crate::sys::ptrace::Stopped;
use crate::sys::remote::Injected;
use crate::sysv;
use crate::target::Target;
use crate::task::asleep::Timers;
use crate::task::tree::{self, Share};
use crate::tracer::{Lease, Options};
use crate::view::View;
use crate::{Error, Pid, Result};

/// One instant of a tree. Dropping it ends the copy-on-write child and reaps it.
pub struct Snapshot {
    taken: Taken,
    /// Held for its Drop: the session then lets go of what this snapshot is read from.
    _lease: Lease,
}

/// What a snapshot tells.
pub struct Taken {
    stream: Stream,
    view: Arc<View>,
}

impl Snapshot {
    /// An instant, and the lease whose end lets go of what it is read from.
    pub fn new(taken: Taken, lease: Lease) -> Self {
        Self { taken, _lease: lease }
    }
}

impl Instant for Snapshot {
    fn view(&self) -> &Arc<View> {
        &self.taken.view
    }

    fn read_image(&self, offset: u64, len: usize) -> Result<Piece> {
        self.taken.stream.read(offset, len)
    }
}

/// What a snapshot is read from.
pub enum Held {
    /// Copy-on-write children; the tree goes on.
    Children(Children),
    /// The stopped tree itself, and children that are of no use.
    Tree(Frozen, Children),
}

/// Copy-on-write children.
#[derive(Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// No page of the image is read from shared mappings, and their files would stay open: with locks that are taken from now on.
    fn close_files(&mut self, shared: &BTreeMap<Pid, Vec<(u64, u64)>>) {
        for child in &mut self.0 {
            let ranges = shared.get(&child.parent()).map_or(&[][..], Vec::as_slice);
            // One that is sealed (mseal(2)) stays. A child that has ended says so when it is read.
            if let Err(error) = child.unmap(ranges) {
                log::debug!("pid {}: {error}", child.parent());
            }
        }
    }

    /// Kills all of them, then has each reaped by its parent, which must go on by now.
    pub fn end(mut self) {
        self.0.iter_mut().for_each(Child::kill);
        self.0.into_iter().for_each(Child::end);
    }
}

/// Freezes, looks, forks, thaws.
pub fn take(target: &Target, options: &Options) -> Result<(Taken, Held)> {
    let pids = target.members()?;
    // A process that cannot be looked at now is told of once it is stopped.
    let premises = pids.iter().filter_map(|pid| Some((*pid, Premise::find(*pid).ok()?))).collect();
    let timers = Timers::before(&pids);
    let mut frozen = freeze::freeze(target, options.freeze_timeout, options.cgroup.as_ref())?;
    let timers = timers.gone();
    let mut forks =
        Forks { children: Children::default(), kept: BTreeMap::new(), failure: None, budget: dump::KEPT_MOST };
    let seen = see(&mut frozen, premises, &timers, Some(&mut forks), options);
    let stopped = frozen.since.elapsed();
    let (seen, failure) = match (seen, forks.failure.take()) {
        (Ok(seen), failure) => (seen, failure),
        (Err(error), _) => {
            drop(frozen);
            forks.children.end();
            return Err(error);
        }
    };
    let mut held = match failure {
        None => {
            drop(frozen);
            Held::Children(forks.children)
        }
        Some(error) => {
            log::info!("{target}: no copy-on-write child ({error}); it stays stopped while it is read");
            forks.kept.clear();
            frozen.turn = None;
            Held::Tree(frozen, forks.children)
        }
    };
    let shared: BTreeMap<Pid, Vec<(u64, u64)>> =
        seen.looked.processes.iter().map(|process| (process.pid, process.shared_mappings())).collect();
    let copies: BTreeMap<Pid, Pid> = match &held {
        Held::Children(children) => children.0.iter().map(|child| (child.parent(), child.pid())).collect(),
        Held::Tree(..) => seen.looked.speakers(),
    };
    let source = |pid: Pid| copies.get(&pid).copied().unwrap_or(pid);
    let settled = seen.settle(options);
    match settled.and_then(|()| tell(target, seen, source, forks.kept, stopped)) {
        Ok(taken) => {
            if let Held::Children(children) = &mut held {
                children.close_files(&shared);
            }
            Ok((taken, held))
        }
        Err(error) => {
            held.let_go();
            Err(error)
        }
    }
}

impl Held {
    /// Everybody goes on, and no child is left.
    pub fn let_go(self) {
        match self {
            Held::Children(children) => children.end(),
            Held::Tree(frozen, children) => {
                drop(frozen);
                children.end();
            }
        }
    }
}

/// What is made while the tree is stopped.
struct Forks {
    children: Children,
    /// By process and start of the mapping.
    kept: BTreeMap<(Pid, u64), Kept>,
    /// Why there cannot be a child of each.
    failure: Option<Error>,
    budget: u64,
}

impl Forks {
    fn fork(&mut self, injected: &mut Injected<'_>, seen: &mut LookedProcess, door: &Door) -> Result<()> {
        let child = child::fork(injected, seen.pid, &dump::attachments(seen)?)?;
        let pid = child.pid();
        // It has to be reaped, whatever becomes of it.
        self.children.0.push(child);
        if let Some(child) = self.children.0.last_mut() {
            child.unmap(&seen.locked)?;
        }
        let kept = dump::keep_what_fork_drops(seen, door, pid, &mut self.budget)?;
        self.kept.extend(kept.into_iter().map(|(start, kept)| ((seen.pid, start), kept)));
        Ok(())
    }
}

/// What was seen of a stopped tree.
struct Seen {
    looked: Looked,
    files: Collector,
    /// Flags of mappings of processes that have memory locked: a child of fork does not inherit that.
    locked: BTreeMap<Pid, dump::Flags>,
}

impl Seen {
    /// What others have a part in. That takes its time, and the tree may go on.
    fn settle(&self, options: &Options) -> Result<()> {
        kin::refuse_sharing_siblings(&self.looked.tree)?;
        self.files.settle(options.keep_external_pipes)
    }
}

/// Looks at everybody in a stopped tree, and forks everybody, if it is to go on.
fn see(
    frozen: &mut Frozen,
    mut premises: BTreeMap<Pid, Premise>,
    timers: &Timers,
    mut forks: Option<&mut Forks>,
    options: &Options,
) -> Result<Seen> {
    dump::refuse_what_is_not_supported(frozen)?;
    let mut tree = kin::look(frozen)?;
    let taken = SystemTime::now();
    let mut doors = BTreeMap::new();
    let mut locked = BTreeMap::new();
    for process in frozen.processes.iter().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let speaker = process.threads.first().map_or(pid, Stopped::tid);
        let mut door = Door::open(speaker, premises.remove(&pid))?;
        door.vdso.tid = pid;
        doors.insert(pid, door);
        locked.extend(dump::locked_flags(speaker)?.map(|flags| (pid, flags)));
    }
    let hole = door::share_hole(doors.values_mut())?;
    let sysv = sysv::There::look();
    let files = Collector::of(frozen.processes.iter().map(|process| process.pid).collect());
    let (mut processes, mut tables) = (Vec::new(), Vec::new());
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let door = &doors[&pid];
        let shares = |what: Share| tree.processes.iter().any(|it| it.pid == pid && it.shares(what));
        let (has_memory, has_files) = (!shares(Share::Vm), !shares(Share::Files));
        let mut looking = dump::Looking { tree: &mut tree, files: &files, timers, sysv: &sysv, hole };
        let looked = door::inside(process, door, |injected, process| {
            let mut looked = looking.process(process, door, injected)?;
            if let Some(forks) = forks.as_deref_mut() {
                child::reap_left_behind(injected, &freeze::left_behind(pid))?;
                if has_memory && forks.failure.is_none() {
                    forks.failure = forks.fork(injected, &mut looked, door).err();
                }
            }
            Ok(looked)
        })?;
        processes.push(looked);
        let told = tree.processes.iter().find(|it| it.pid == pid);
        if has_files {
            tables.push(files.table(pid, told.map_or(pid, tree::Process::speaker))?);
        }
        for (tid, _) in told.into_iter().flat_map(|told| &told.own).filter(|(_, what)| *what == Share::Files) {
            tables.push(files.table(*tid, *tid)?);
        }
    }
    tree.rehearse()?;
    let users = sysv::Users {
        pids: tree.processes.iter().map(|process| process.pid).collect(),
        waits: processes.iter().flat_map(|process: &LookedProcess| process.waits.iter().copied()).collect(),
        wants_owned: options.owned_sysv_ipc,
        adjustments: processes.iter().flat_map(|process| process.adjustments.iter().copied()).collect(),
    };
    let sysv = sysv.records(&users)?;
    Ok(Seen { looked: Looked { tree, processes, tables, sysv, taken }, files, locked })
}

/// Whether whoever is to be signalled will be there again.
fn is_known(tree: &tree::Tree, who: Named) -> bool {
    tree.processes.iter().any(|process| match who {
        Named::Task(tid) => process.threads.contains(&tid),
        Named::Process(pid) => process.pid == pid && !process.is_ghost(),
        // A group is made by its leader, be it gone since.
        Named::Group(pgid) => process.pid == pgid,
    })
}

/// Page sets, records -> a layout in which every offset is known. `source`: whose memory is read for a process.
fn tell(
    target: &Target,
    seen: Seen,
    source: impl Fn(Pid) -> Pid,
    kept: BTreeMap<(Pid, u64), Kept>,
    stopped: Duration,
) -> Result<Taken> {
    let Seen { mut looked, files, locked } = seen;
    let mut memory = Vec::new();
    for process in &mut looked.processes {
        let kept = |start: u64| kept.get(&(process.pid, start)).map(Kept::runs);
        memory.push(dump::complete(&mut process.mappings, source(process.pid), kept, locked.get(&process.pid))?);
    }
    let inherited = heritage::find(&mut looked, &mut memory, &source)?;
    let mut builder = LayoutBuilder::new(dump::epoch_ns(looked.taken));
    builder.stood(stopped);
    builder.record(Record::new(tree::TAG, &looked.tree)?)?;
    let (mut sources, mut places) = (Vec::new(), BTreeMap::new());
    let mut own = BTreeMap::new();
    for process in &mut looked.processes {
        for record in std::mem::take(&mut process.records) {
            builder.record(record)?;
        }
        own.insert(process.pid, sources.len());
        sources.push(Source::Memory(MemFile::open(source(process.pid))?, std::mem::take(&mut process.rseq)));
    }
    for (key, kept) in kept {
        places.insert(key, sources.len());
        sources.push(Source::Kept(kept));
    }
    for record in std::mem::take(&mut looked.sysv) {
        builder.record(record)?;
    }
    let Collected { objects, files, late } = files.into_records(|who| is_known(&looked.tree, who))?;
    for (record, contents) in objects {
        builder.record(record)?;
        if let Some(contents) = contents {
            builder.pages(sources.len(), contents.runs);
            sources.push(Source::File(contents.file.into()));
        }
    }
    for record in files.into_iter().chain(looked.tables).chain(late) {
        builder.record(record)?;
    }
    for ((process, sets), mut inherited) in looked.processes.into_iter().zip(memory).zip(inherited) {
        let pid = process.pid;
        for ((_, vma), runs) in process.mappings.into_iter().zip(sets) {
            let place = places.get(&(pid, vma.start)).or_else(|| own.get(&pid)).copied().unwrap_or_default();
            let inherited = inherited.remove(&vma.start);
            builder.record(vma.record(inherited.as_ref())?)?;
            builder.pages(place, runs);
        }
    }
    let layout = Arc::new(builder.finish()?);
    let sources = Arc::new(Sources(sources));
    let view = View::new(target.to_string(), *layout.header(), Arc::clone(&layout) as _, Arc::clone(&sources) as _);
    Ok(Taken { stream: Stream::new(layout, sources), view: Arc::new(view) })
}

/// A snapshot of what is stopped anyway: read from the processes themselves.
pub fn take_of_held(target: &Target, frozen: &mut Frozen, timers: &Timers, options: &Options) -> Result<Taken> {
    cgroup::refuse_frozen(&frozen.processes.iter().map(|process| process.pid).collect::<Vec<_>>())?;
    let seen = see(frozen, BTreeMap::new(), timers, None, options)?;
    seen.settle(options)?;
    let stopped = frozen.since.elapsed();
    let speakers = seen.looked.speakers();
    tell(target, seen, |pid| speakers.get(&pid).copied().unwrap_or(pid), BTreeMap::new(), stopped)
}

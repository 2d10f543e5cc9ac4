//! The instant: a copy-on-write child and its page set, told as an image whose every offset is known.

pub mod lease;
pub mod session;
pub mod source;
pub mod tracer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::checkpoint::Instant;
use crate::checkpoint::view::View;
use crate::cow::child;
use crate::cow::children::Children;
use crate::dump::files::{Collected, Collector};
use crate::dump::{Looked, LookedProcess, cow_pages, memory, process, pstree, unsupported};
use crate::error::Result;
use crate::freeze::entry::{self, Door, Premise};
use crate::freeze::target::Target;
use crate::freeze::{self, Frozen, cgroup, snapshot_child};
use crate::image::builder::LayoutBuilder;
use crate::image::format;
use crate::image::frame::Record;
use crate::kind::fd_state::Named;
use crate::memory::source::{Kept, Source, Sources};
use crate::memory::vma;
use crate::options::{Options, Purpose};
use crate::pstree::record::{self, Share};
use crate::read_ahead::{Piece, ReadAhead, Stream};
use crate::snapshot::lease::Lease;
use crate::snapshot::source::{Forks, Held};
use crate::sys::clock;
use crate::sys::memory::MemFile;
use crate::sys::pid::Pid;
use crate::sys::proc::{self, locks};
use crate::sys::ptrace::Stopped;
use crate::sysv::table;
use crate::task::restart_block::Timers;

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
    sources: Arc<Sources>,
    /// Whose memory is read, by process.
    copies: BTreeMap<Pid, Pid>,
    /// Those of them that were made for it.
    children: Vec<Pid>,
}

impl Snapshot {
    /// An instant, and the lease whose end lets go of what it is read from.
    pub fn new(taken: Taken, lease: Lease) -> Self {
        Self { taken, _lease: lease }
    }

    /// Nobody reads for a while: gives back what only readers need.
    pub fn rest(&self) {
        self.taken.stream.rest();
    }

    /// Who is for `pid` in /proc as long as the snapshot lives: its copy-on-write child, or itself where it is stopped.
    pub fn memory_of(&self, pid: Pid) -> Pid {
        self.taken.copies.get(&pid).copied().unwrap_or(pid)
    }

    /// Bytes of memory that would be free without this snapshot: pages of its children that nobody has any more but they
    /// (/proc/PID/smaps_rollup), and what was copied. Pages that two snapshots have in common are told of neither.
    pub fn memory(&self) -> u64 {
        // One that was killed has none.
        let private = self.taken.children.iter().filter_map(|child| proc::private_bytes(*child).ok());
        private.sum::<u64>() + self.taken.sources.memory()
    }
}

impl Instant for Snapshot {
    fn view(&self) -> &Arc<View> {
        &self.taken.view
    }

    fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece> {
        self.taken.stream.read(offset, len, ahead)
    }
}

/// Freezes, looks, forks, thaws.
pub fn take(target: &Target, options: &Options, purpose: Purpose) -> Result<(Taken, Held)> {
    let pids = target.members()?;
    snapshot_child::wait_for_the_dying(&pids);
    // A process that cannot be looked at now is told of once it is stopped.
    let premises = pids.iter().filter_map(|pid| Some((*pid, Premise::find(*pid).ok()?))).collect();
    let timers = Timers::before(&pids);
    locks::prepare();
    let mut frozen = freeze::freeze(target, options.freeze_timeout, options.cgroup.as_ref())?;
    let timers = timers.gone();
    let mut forks = Forks::default();
    let seen = see(&mut frozen, premises, &timers, Some(&mut forks), options);
    let stopped = frozen.since.elapsed();
    let (seen, failure) = match (seen, forks.failure.take()) {
        (Ok(_), Some(error)) | (Err(error), _) if purpose == Purpose::Keeping => (Err(error), None),
        told => told,
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
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
    let told = match &mut held {
        Held::Children(children) => tell_of_children(target, seen, children, forks.kept, stopped, options),
        Held::Tree(..) => tell_of_stopped(target, seen, stopped, options),
    };
    match told {
        Ok(taken) => {
            if let (Held::Children(children), Purpose::Keeping) = (&mut held, purpose) {
                children.stand_aside();
            }
            Ok((taken, held))
        }
        Err(error) => {
            held.let_go();
            Err(error)
        }
    }
}

/// What the children of a tree tell, which may go on meanwhile.
fn tell_of_children(
    target: &Target,
    seen: Seen,
    children: &mut Children,
    kept: BTreeMap<(Pid, u64), Kept>,
    stopped: Duration,
    options: &Options,
) -> Result<Taken> {
    seen.settle(options)?;
    let shared: BTreeMap<Pid, Vec<(u64, u64)>> =
        seen.looked.processes.iter().map(|process| (process.pid, process.shared_mappings())).collect();
    let mut taken = tell(target, seen, children.pids(), kept, stopped)?;
    taken.children = children.pids().into_values().collect();
    children.close_files(&shared);
    Ok(taken)
}

/// What a stopped tree tells.
fn tell_of_stopped(target: &Target, seen: Seen, stopped: Duration, options: &Options) -> Result<Taken> {
    seen.settle(options)?;
    let speakers = seen.looked.speakers();
    tell(target, seen, speakers, BTreeMap::new(), stopped)
}

/// What was seen of a stopped tree.
struct Seen {
    looked: Looked,
    files: Collector,
    /// Flags of mappings of processes that have memory locked: a child of fork does not inherit that.
    locked: BTreeMap<Pid, vma::Flags>,
    /// In ticks of the clock since boot.
    stopped_at: u64,
}

impl Seen {
    /// What others have a part in. That takes its time, and the tree may go on.
    fn settle(&self, options: &Options) -> Result<()> {
        pstree::refuse_sharing_outside(&self.looked.tree, self.stopped_at)?;
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
    unsupported::refuse_what_is_not_supported(frozen)?;
    let mut tree = pstree::look(frozen)?;
    let (taken, stopped_at) = (SystemTime::now(), clock::boot_ticks());
    let mut doors = BTreeMap::new();
    let mut locked = BTreeMap::new();
    for process in frozen.processes.iter().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let speaker = process.threads.first().map_or(pid, Stopped::tid);
        let mut door = Door::open(speaker, premises.remove(&pid))?;
        door.vdso.tid = pid;
        doors.insert(pid, door);
        locked.extend(memory::locked_flags(speaker)?.map(|flags| (pid, flags)));
    }
    let hole = entry::share_hole(doors.values_mut())?;
    let sysv = table::There::look();
    let files = Collector::of(frozen.processes.iter().map(|process| process.pid).collect());
    let (mut processes, mut tables) = (Vec::new(), Vec::new());
    for process in frozen.processes.iter_mut().filter(|process| !process.is_zombie) {
        let pid = process.pid;
        let door = &doors[&pid];
        let shares = |what: Share| tree.processes.iter().any(|it| it.pid == pid && it.shares(what));
        let (has_memory, has_files) = (!shares(Share::Vm), !shares(Share::Files));
        let mut looking = process::Looking { tree: &mut tree, files: &files, timers, sysv: &sysv, hole };
        let looked = entry::inside(process, door, |injected, process| {
            let mut looked = looking.process(process, door, injected)?;
            child::reap_left_behind(injected, &snapshot_child::left_behind(pid))?;
            if let Some(forks) = forks.as_deref_mut()
                && has_memory
                && forks.failure.is_none()
            {
                forks.failure = forks.fork(injected, &mut looked, door).err();
            }
            Ok(looked)
        })?;
        processes.push(looked);
        let told = tree.processes.iter().find(|it| it.pid == pid);
        if has_files {
            tables.push(files.table(pid, told.map_or(pid, record::Process::speaker))?);
        }
        for (tid, _) in told.into_iter().flat_map(|told| &told.own).filter(|(_, what)| *what == Share::Files) {
            tables.push(files.table(*tid, *tid)?);
        }
    }
    tree.rehearse()?;
    let users = table::Users {
        pids: tree.processes.iter().map(|process| process.pid).collect(),
        waits: processes.iter().flat_map(|process: &LookedProcess| process.waits.iter().copied()).collect(),
        wants_owned: options.owned_sysv_ipc,
        adjustments: processes.iter().flat_map(|process| process.adjustments.iter().copied()).collect(),
    };
    let sysv = sysv.records(&users)?;
    Ok(Seen { looked: Looked { tree, processes, tables, sysv, taken }, files, locked, stopped_at })
}

/// Whether whoever is to be signalled will be there again.
fn is_known(tree: &record::Tree, who: Named) -> bool {
    tree.processes.iter().any(|process| match who {
        Named::Task(tid) => process.threads.contains(&tid),
        Named::Process(pid) => process.pid == pid && !process.is_ghost(),
        // A group is made by its leader, be it gone since.
        Named::Group(pgid) => process.pid == pgid,
    })
}

/// Page sets, records -> a layout in which every offset is known. `copies`: whose memory is read for a process.
fn tell(
    target: &Target,
    seen: Seen,
    copies: BTreeMap<Pid, Pid>,
    kept: BTreeMap<(Pid, u64), Kept>,
    stopped: Duration,
) -> Result<Taken> {
    let Seen { mut looked, files, locked, .. } = seen;
    let source = |pid: Pid| copies.get(&pid).copied().unwrap_or(pid);
    let mut memory = Vec::new();
    for process in &mut looked.processes {
        let kept = |start: u64| kept.get(&(process.pid, start)).map(Kept::runs);
        memory.push(memory::complete(&mut process.mappings, source(process.pid), kept, locked.get(&process.pid))?);
    }
    let inherited = cow_pages::find(&mut looked, &mut memory, source)?;
    let mut builder = LayoutBuilder::new(format::epoch_ns(looked.taken));
    builder.stood(stopped);
    builder.record(Record::new(record::TAG, &looked.tree)?)?;
    let (mut sources, mut places) = (Vec::new(), BTreeMap::new());
    let mut own = BTreeMap::new();
    for process in &mut looked.processes {
        for record in std::mem::take(&mut process.records) {
            builder.record(record)?;
        }
        // Who has another's memory has none that would be read.
        if !process.mappings.is_empty() {
            own.insert(process.pid, sources.len());
            sources.push(Source::Memory(MemFile::open(source(process.pid))?, std::mem::take(&mut process.rseq)));
        }
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
    let stream = Stream::new(layout, Arc::clone(&sources) as _);
    Ok(Taken { stream, view: Arc::new(view), sources, copies, children: Vec::new() })
}

/// A snapshot of what is stopped anyway: read from the processes themselves.
pub fn take_of_held(target: &Target, frozen: &mut Frozen, timers: &Timers, options: &Options) -> Result<Taken> {
    let seen = see_held(frozen, timers, None, options)?;
    let stopped = frozen.since.elapsed();
    tell_of_stopped(target, seen, stopped, options)
}

/// A snapshot of what is stopped anyway, that is kept when it goes on. Whatever came of it, the children are to be ended, and cannot be
/// reaped before the tree goes on.
pub fn keep_of_held(
    target: &Target,
    frozen: &mut Frozen,
    timers: &Timers,
    options: &Options,
) -> (Result<Taken>, Children) {
    let mut forks = Forks::default();
    let seen = see_held(frozen, timers, Some(&mut forks), options);
    let stopped = frozen.since.elapsed();
    let Forks { mut children, kept, failure, .. } = forks;
    let told = match (seen, failure) {
        (Ok(_), Some(error)) | (Err(error), _) => Err(error),
        (Ok(seen), None) => tell_of_children(target, seen, &mut children, kept, stopped, options),
    };
    children.stand_aside();
    (told, children)
}

fn see_held(frozen: &mut Frozen, timers: &Timers, forks: Option<&mut Forks>, options: &Options) -> Result<Seen> {
    cgroup::refuse_frozen(&frozen.processes.iter().map(|process| process.pid).collect::<Vec<_>>())?;
    see(frozen, BTreeMap::new(), timers, forks, options)
}

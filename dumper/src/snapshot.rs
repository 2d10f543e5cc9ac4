//! The instant: a copy-on-write child and its page set, told as an image whose every offset is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::child::{self, Child};
use crate::door::{Door, Premise};
use crate::dump::{self, Looked};
use crate::freeze::{self, Frozen};
use crate::image::{Layout, LayoutBuilder};
use crate::pages::{Source, Sources};
use crate::stream::{Piece, Stream};
use crate::sys::memory::MemFile;
use crate::sys::remote::Injected;
use crate::task::asleep::Timers;
use crate::tracer::{Lease, Options, ended};
use crate::view::{View, VmaView};
use crate::{Context, Pid, Result};

/// One instant of a tree. Dropping it ends the copy-on-write child and reaps it.
pub struct Snapshot {
    instant: Instant,
    /// Held for its Drop: the session then lets go of what this snapshot is read from.
    _lease: Lease,
}

/// What a snapshot tells.
pub struct Instant {
    layout: Arc<Layout>,
    stream: Stream,
    view: View,
    taken: SystemTime,
    stopped: Duration,
}

impl Snapshot {
    /// An instant, and the lease whose end lets go of what it is read from.
    pub fn new(instant: Instant, lease: Lease) -> Self {
        Self { instant, _lease: lease }
    }

    /// The exact length of the image, bytes.
    pub fn image_len(&self) -> u64 {
        self.instant.layout.len()
    }

    /// The instant.
    pub fn taken(&self) -> SystemTime {
        self.instant.taken
    }

    /// How long the tree was stopped (until the snapshot was taken, for one that is held by `freeze`).
    pub fn stopped(&self) -> Duration {
        self.instant.stopped
    }

    /// `len` bytes of the image at `offset`; fewer only at its end.
    ///
    /// # Errors
    /// [`crate::Kind::SnapshotLost`] if the memory is gone: never zeros in its place.
    pub fn read_image(&self, offset: u64, len: usize) -> Result<Piece> {
        self.instant.stream.read(offset, len)
    }

    /// The text of `info.json`: the image's records, without bulk.
    pub fn info_json(&self, pid: Pid) -> Result<String> {
        self.instant.view.info_json(pid)
    }

    /// The text of `maps`: as in /proc, with the bytes that the image holds of each mapping before the name.
    pub fn maps(&self, pid: Pid) -> Result<String> {
        self.instant.view.maps(pid)
    }

    /// The mappings, ascending: what `vmas/` lists.
    pub fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        self.instant.view.vmas(pid)
    }

    /// Raw memory of one mapping from `offset` (relative to its start); what the image does not hold reads as zeros. Fewer
    /// bytes only at the mapping's end.
    pub fn read_vma(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.instant.view.read(pid, start, offset, buf)
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE within one mapping, relative to its start; `None` is ENXIO.
    pub fn seek_vma(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        self.instant.view.seek(pid, start, offset, data)
    }
}

/// What a snapshot is read from.
pub enum Held {
    /// A copy-on-write child; the tree goes on.
    Child(Child),
    /// The stopped tree itself.
    Tree(Frozen),
}

/// Freezes, looks, forks, thaws.
pub fn take(root: Pid, options: &Options) -> Result<(Instant, Held)> {
    // A process that cannot be looked at now is told of once it is stopped.
    let premise = Premise::find(root).ok();
    let timers = Timers::before(&[root]);
    let mut frozen = freeze::freeze(root, options.freeze_timeout, options.cgroup.as_deref())?;
    dump::refuse_what_is_not_supported(&frozen)?;
    let timers = timers.gone();
    let door = Door::open(root, premise)?;
    let locked = dump::locked_flags(root)?;
    let (mut looked, mut unused) = (None, None);
    let forked = inside(&mut frozen, &door, |injected, process| {
        let mut seen = dump::look(process, &door, injected, &timers)?;
        child::reap_left_behind(injected, &freeze::left_behind(root))?;
        let child = child::fork(injected, root).and_then(|child| {
            let kept = dump::keep_what_fork_drops(&mut seen, &door, child.pid());
            match kept {
                Ok(kept) => Ok((child, kept)),
                // Its parent is stopped by ourselves: it is reaped once that goes on.
                Err(error) => {
                    unused = Some(child);
                    Err(error)
                }
            }
        });
        looked = Some(seen);
        Ok(child)
    })?;
    let mut looked = looked.ok_or_else(|| ended(root))?;
    let stopped = frozen.since.elapsed();
    let (held, kept, source) = match forked {
        Ok((child, kept)) => {
            drop(frozen);
            let source = child.pid();
            (Held::Child(child), kept, source)
        }
        Err(error) => {
            log::info!("pid {root}: no copy-on-write child ({error}); it stays stopped while it is read");
            (Held::Tree(frozen), Default::default(), root)
        }
    };
    let made = (|| {
        let sets = dump::complete(&mut looked, source, &kept, locked.as_ref())?;
        let mut sources = vec![Source::Memory(MemFile::open(source)?, std::mem::take(&mut looked.rseq))];
        let mut places = BTreeMap::new();
        for (start, kept) in kept {
            places.insert(start, sources.len());
            sources.push(Source::Kept(kept));
        }
        assemble(root, looked, sets, sources, &places, stopped)
    })();
    match (made, held) {
        (Ok(instant), held) => Ok((instant, held)),
        (Err(error), Held::Child(child)) => {
            child.end(root);
            Err(error)
        }
        (Err(error), Held::Tree(_)) => Err(error),
    }
}

/// Runs `work` with the stub injected into the root process; takes it out again whatever comes.
fn inside<T>(
    frozen: &mut Frozen,
    door: &Door,
    work: impl FnOnce(&mut Injected<'_>, &mut freeze::FrozenProcess) -> Result<T>,
) -> Result<T> {
    let process = frozen.processes.first_mut().ok_or_else(|| ended(0))?;
    let pid = process.pid;
    if process.threads.is_empty() {
        return Err(ended(pid));
    }
    // The leader need not have the lowest id, and a dump of a held tree has left the threads in another order.
    process.threads.sort_by_key(|thread| (thread.tid() != pid, thread.tid()));
    let leader = process.threads.remove(0);
    let mut injected = Injected::inject(leader, &door.mem, door.entry.clone()).on(|| format!("pid {pid}"))?;
    let result = work(&mut injected, process);
    process.threads.push(injected.eject()?);
    result
}

/// Records and page sets -> a layout in which every offset is known.
fn assemble(
    root: Pid,
    looked: Looked,
    sets: Vec<crate::image::PageRuns>,
    mut sources: Vec<Source>,
    places: &BTreeMap<u64, usize>,
    stopped: Duration,
) -> Result<Instant> {
    let mut builder = LayoutBuilder::new(dump::epoch_ns(looked.taken));
    for record in looked.records {
        builder.record(record)?;
    }
    for (record, contents) in looked.objects {
        builder.record(record)?;
        if let Some(contents) = contents {
            builder.pages(sources.len(), contents.runs);
            sources.push(Source::File(contents.file.into()));
        }
    }
    for record in looked.files {
        builder.record(record)?;
    }
    for ((_, vma), runs) in looked.mappings.iter().zip(sets) {
        builder.record(vma.record()?)?;
        builder.pages(places.get(&vma.start).copied().unwrap_or(0), runs);
    }
    let layout = Arc::new(builder.finish()?);
    let sources = Arc::new(Sources(sources));
    let mappings = looked.mappings.into_iter().map(|(mapping, vma)| (mapping, vma.pages)).collect();
    Ok(Instant {
        stream: Stream::new(Arc::clone(&layout), Arc::clone(&sources) as _),
        view: View::new(root, Arc::clone(&layout), sources, mappings, looked.taken, stopped),
        layout,
        taken: looked.taken,
        stopped,
    })
}

/// A snapshot of a tree that is stopped anyway: read from the tree itself.
pub fn take_of_held(root: Pid, frozen: &mut Frozen, timers: &Timers) -> Result<Instant> {
    dump::refuse_what_is_not_supported(frozen)?;
    let door = Door::open(root, None)?;
    let mut looked = inside(frozen, &door, |injected, process| dump::look(process, &door, injected, timers))?;
    let sets = dump::complete(&mut looked, root, &Default::default(), None)?;
    let sources = vec![Source::Memory(MemFile::open(root)?, std::mem::take(&mut looked.rseq))];
    let stopped = frozen.since.elapsed();
    assemble(root, looked, sets, sources, &Default::default(), stopped)
}

//! The instant: copy-on-write children and page set, owned by one tracer thread.
//!
//! ptrace belongs to the thread that attached, so every snapshot has a thread of its own (as has a tree held by `freeze`): it
//! freezes, looks, forks, thaws, and then sleeps until the snapshot is dropped, when it reaps the child. If a task cannot be
//! stopped the thread ends, and the kernel detaches whatever it held.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

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
use crate::view::{View, VmaView};
use crate::{Context, Error, Kind, Pid, Result};

/// What a mount decides once for all its dumps.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a tree may take to stop before everybody is thawed again (EBUSY).
    pub freeze_timeout: Duration,
    /// The cgroup v2 directory to freeze first, where the container is one.
    pub cgroup: Option<PathBuf>,
}

/// One instant of a tree. Dropping it ends the copy-on-write child and reaps it.
pub struct Snapshot {
    instant: Instant,
    /// Held for its Drop: the session then lets go of what this snapshot is read from.
    _lease: Lease,
}

/// What a snapshot tells.
struct Instant {
    layout: Arc<Layout>,
    stream: Stream,
    view: View,
    taken: SystemTime,
    stopped: Duration,
}

impl Snapshot {
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
    /// [`Kind::SnapshotLost`] if the memory is gone: never zeros in its place.
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

/// Tells a session that a snapshot is gone.
struct Lease {
    session: Sender<Command>,
    done: Receiver<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Waits, so that after the last close there is no child left to be seen.
        if self.session.send(Command::Release).is_ok() {
            let _ = self.done.recv_timeout(Duration::from_secs(5));
        }
    }
}

enum Command {
    Snapshot(Sender<Result<Snapshot>>),
    Thaw(Sender<Result<()>>),
    /// Only to see whether the session lives.
    Look,
    Release,
}

/// The freezing and snapshots of one tree. Cheap to clone; a tree held by [`Tracer::freeze`] goes on when the last clone is gone.
#[derive(Clone)]
pub struct Tracer {
    root: Pid,
    options: Arc<Options>,
    /// Locked only for as long as a command is handed over or a tree is being frozen.
    held: Arc<Mutex<Option<Sender<Command>>>>,
}

impl Tracer {
    /// Touches nobody yet.
    pub fn new(root: Pid, options: Options) -> Result<Self> {
        Ok(Self { root, options: Arc::new(options), held: Arc::new(Mutex::new(None)) })
    }

    /// The root of the tree.
    pub fn root(&self) -> Pid {
        self.root
    }

    /// Whether the tree is held.
    pub fn is_frozen(&self) -> bool {
        // A session that has ended (its tree was killed) holds nobody.
        self.held.lock().as_ref().is_some_and(|session| session.send(Command::Look).is_ok())
    }

    /// Stops the whole tree and keeps it stopped until [`Tracer::thaw`]. Idempotent.
    pub fn freeze(&self) -> Result<()> {
        let mut held = self.held.lock();
        if held.as_ref().is_none_or(|session| session.send(Command::Look).is_err()) {
            let (root, options) = (self.root, Arc::clone(&self.options));
            let (ready, wait) = bounded(1);
            let (session, commands) = unbounded();
            let thread = spawn(root, move || hold(root, &options, &commands, &ready))?;
            answer(root, &wait, Some(thread))?;
            *held = Some(session);
        }
        Ok(())
    }

    /// Lets a held tree go on. Idempotent.
    ///
    /// # Errors
    /// [`Kind::Busy`] while an image of the stopped tree is being read: its memory is the image.
    pub fn thaw(&self) -> Result<()> {
        let mut held = self.held.lock();
        if let Some(session) = &*held {
            let (answer, wait) = bounded(1);
            if session.send(Command::Thaw(answer)).is_ok() {
                wait.recv().map_err(|_| ended(self.root))??;
            }
            *held = None;
        }
        Ok(())
    }

    /// Takes a snapshot. `reader` is the process that asks, if known.
    ///
    /// # Errors
    /// [`Kind::Deadlock`] if the reader belongs to the tree; [`Kind::Unsupported`] names what cannot be checkpointed;
    /// [`Kind::Busy`] if the tree does not stop. The tree then goes on as if nothing had been asked.
    pub fn snapshot(&self, reader: Option<Pid>) -> Result<Snapshot> {
        let root = self.root;
        dump::refuse_reader(root, &freeze::tree(root)?, reader)?;
        let (reply, wait) = bounded(1);
        let held = self.held.lock().clone();
        let thread = match held {
            Some(session) => {
                session.send(Command::Snapshot(reply)).map_err(|_| ended(root))?;
                None
            }
            None => {
                let options = Arc::clone(&self.options);
                Some(spawn(root, move || session(root, &options, &reply))?)
            }
        };
        answer(root, &wait, thread)
    }
}

/// A session's first word. If that is a failure its thread is about to end; only then is a task that could not be stopped no longer
/// traced, so that is waited for.
fn answer<T>(root: Pid, wait: &Receiver<Result<T>>, thread: Option<JoinHandle<()>>) -> Result<T> {
    let answer = wait.recv().map_err(|_| ended(root)).flatten();
    if let (Err(_), Some(thread)) = (&answer, thread) {
        // A thread that has panicked has let go as well.
        let _ = thread.join();
    }
    answer
}

fn ended(root: Pid) -> Error {
    Error::new(Kind::NoProcess, format!("pid {root}: its tracer thread has ended"))
}

fn spawn(root: Pid, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("tracer-{root}"))
        .spawn(work)
        .map_err(|error| Error::io(format_args!("pid {root}: starting a tracer thread"), &error))
}

/// The life of one snapshot of a running tree.
fn session(root: Pid, options: &Options, answer: &Sender<Result<Snapshot>>) {
    match take(root, options) {
        Err(error) => {
            let _ = answer.send(Err(error));
        }
        Ok((instant, source)) => {
            let (commands, inbox) = unbounded();
            let (done, wait) = bounded(1);
            let lease = Lease { session: commands, done: wait };
            let _ = answer.send(Ok(Snapshot { instant, _lease: lease }));
            // A lost receiver has dropped the snapshot, and its lease has told us so.
            match source {
                Held::Child(child) => {
                    let _ = inbox.recv();
                    child.end(root);
                }
                Held::Tree(mut frozen) => {
                    while inbox.recv_timeout(ROUNDS).is_err_and(|error| error.is_timeout()) {
                        frozen.bury_the_dead();
                    }
                }
            }
            let _ = done.send(());
        }
    }
}

/// How often a tracer thread looks whether somebody has killed what it holds stopped.
const ROUNDS: Duration = Duration::from_millis(20);

/// What a snapshot is read from.
enum Held {
    Child(Child),
    Tree(Frozen),
}

/// Freezes, looks, forks, thaws.
fn take(root: Pid, options: &Options) -> Result<(Instant, Held)> {
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
        if let Held::Child(child) = &held {
            child.settle()?;
        }
        let sets = dump::complete(&mut looked, source, &kept, locked.as_ref())?;
        let mut sources = vec![Source::Memory(MemFile::open(source)?, std::mem::take(&mut looked.rseq))];
        let mut places = std::collections::BTreeMap::new();
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
    sources: Vec<Source>,
    places: &std::collections::BTreeMap<u64, usize>,
    stopped: Duration,
) -> Result<Instant> {
    let mut builder = LayoutBuilder::new(dump::epoch_ns(looked.taken));
    for record in looked.records {
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

/// The life of a tree held by `freeze`.
fn hold(root: Pid, options: &Options, commands: &Receiver<Command>, ready: &Sender<Result<()>>) {
    let mut frozen = match freeze::freeze(root, options.freeze_timeout, options.cgroup.as_deref()) {
        Ok(frozen) => frozen,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let (release, released) = unbounded();
    let mut readers = 0_usize;
    loop {
        crossbeam::select! {
            default(ROUNDS) => {
                if frozen.bury_the_dead() && readers == 0 {
                    return;
                }
            }
            recv(released) -> command => {
                if let Ok(Release(done)) = command {
                    readers -= 1;
                    let _ = done.send(());
                }
            }
            recv(commands) -> command => match command {
                Ok(Command::Snapshot(answer)) => {
                    let made = of_held(root, &mut frozen, &release);
                    readers += usize::from(made.is_ok());
                    let _ = answer.send(made);
                }
                Ok(Command::Thaw(answer)) if readers > 0 => {
                    let busy = format!("pid {root}: an image of the stopped tree is being read");
                    let _ = answer.send(Err(Error::new(Kind::Busy, busy)));
                }
                Ok(Command::Thaw(answer)) => {
                    drop(frozen);
                    let _ = answer.send(Ok(()));
                    return;
                }
                Ok(Command::Release | Command::Look) => {}
                // The last handle is gone. Images that are still being read need the tree stopped: wait for them.
                Err(_) => {
                    while readers > 0 {
                        if let Ok(Release(done)) = released.recv() {
                            readers -= 1;
                            let _ = done.send(());
                        }
                    }
                    return;
                }
            },
        }
    }
}

struct Release(Sender<()>);

/// A snapshot of a tree that is stopped anyway: read from the tree itself.
fn of_held(root: Pid, frozen: &mut Frozen, release: &Sender<Release>) -> Result<Snapshot> {
    dump::refuse_what_is_not_supported(frozen)?;
    let timers = Timers::before(&[root]).gone();
    let door = Door::open(root, None)?;
    let mut looked = inside(frozen, &door, |injected, process| dump::look(process, &door, injected, &timers))?;
    let sets = dump::complete(&mut looked, root, &Default::default(), None)?;
    let sources = vec![Source::Memory(MemFile::open(root)?, std::mem::take(&mut looked.rseq))];
    let stopped = frozen.since.elapsed();
    let instant = assemble(root, looked, sets, sources, &Default::default(), stopped)?;
    // A lease speaks Command; here a small relay would be a thread more, so the held session has a channel of its own.
    let (session, inbox) = unbounded();
    let (done, wait) = bounded(1);
    let relay = release.clone();
    spawn(root, move || {
        if inbox.recv().is_ok() {
            let _ = relay.send(Release(done));
        }
    })?;
    Ok(Snapshot { instant, _lease: Lease { session, done: wait } })
}

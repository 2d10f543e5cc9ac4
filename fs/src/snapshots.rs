//! The snapshots that are open: one per live process and one of the container, shared by all handles on its files.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ckptfs_dumper::{Context, Core, Error, Instant, Kind, Pid, Result, Snapshot, VmaView};

use serde::Serialize;

use crate::container::Container;
use crate::fuse::errno_name;
use crate::process::{ProcId, Range, owner};
use crate::shared::{Held, Shared};
use crate::status::Status;
use crate::tracers::{Lease, Tracers};

/// An open snapshot of one process, with the texts that were asked for.
pub struct View {
    id: ProcId,
    owner: (u32, u32),
    info: OnceLock<Result<Arc<str>>>,
    maps: OnceLock<Result<Arc<str>>>,
    vmas: OnceLock<Result<Arc<[VmaView]>>>,
    core: OnceLock<Result<Arc<Core>>>,
    // Fields drop in this order: the snapshot needs its tracer to the end.
    snapshot: Snapshot,
    _tracer: Lease,
}

impl View {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whose files these are: the process's user and group at the instant.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// The instant.
    pub fn taken(&self) -> SystemTime {
        self.snapshot.taken()
    }

    /// How long the tree was stopped.
    pub fn stopped(&self) -> Duration {
        self.snapshot.stopped().unwrap_or_default()
    }

    /// The text of `info.json`.
    pub fn info(&self) -> Result<Arc<str>> {
        self.info.get_or_init(|| self.snapshot.info_json(self.id.pid).map(Arc::from)).clone()
    }

    /// The text of `maps`.
    pub fn maps(&self) -> Result<Arc<str>> {
        self.maps.get_or_init(|| self.snapshot.maps(self.id.pid).map(Arc::from)).clone()
    }

    /// The mappings.
    pub fn vmas(&self) -> Result<Arc<[VmaView]>> {
        self.vmas.get_or_init(|| self.snapshot.vmas(self.id.pid).map(Arc::from)).clone()
    }

    /// The process as a core file.
    pub fn core(&self) -> Result<Arc<Core>> {
        self.core.get_or_init(|| self.snapshot.core(self.id.pid).map(Arc::new)).clone()
    }

    /// The mapping with exactly these addresses.
    pub fn vma(&self, range: Range) -> Result<Option<VmaView>> {
        Ok(self.vmas()?.iter().find(|vma| vma.start == range.start && vma.end == range.end).cloned())
    }

    /// Bytes of a mapping of this snapshot.
    pub fn read_vma(&self, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.snapshot.read_vma(self.id.pid, start, offset, buf)
    }

    /// SEEK_DATA or SEEK_HOLE within a mapping of this snapshot.
    pub fn seek_vma(&self, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        self.snapshot.seek_vma(self.id.pid, start, offset, data)
    }
}

/// What an open of `info.json` found.
pub enum Info {
    /// The process, at one instant.
    View(Arc<View>),
    /// Why there is no instant of it.
    Refusal(Arc<String>),
}

/// All open snapshots.
pub struct Snapshots {
    views: Shared<ProcId, View>,
    /// The texts that stand in place of `info.json` of processes that cannot be dumped, while they are open.
    refusals: Shared<ProcId, String>,
    tracers: Arc<Tracers>,
    status: Arc<Status>,
}

impl Snapshots {
    /// None is open.
    pub fn new(tracers: Arc<Tracers>, status: Arc<Status>) -> Snapshots {
        Snapshots { views: Shared::new(), refusals: Shared::new(), tracers, status }
    }

    /// The snapshot of `id` that is open, or one of now. Blocks until the process goes on again.
    /// Every success must be followed by one [`Snapshots::close`].
    pub fn open(&self, id: ProcId, reader: Option<Pid>) -> Result<Arc<View>> {
        self.views.open(id, || {
            let taken = self.take(id, reader);
            match &taken {
                Ok(view) => self.status.dumped(id, &view.snapshot),
                Err(error) => self.status.dump_failed(id, error),
            }
            taken
        })
    }

    fn take(&self, id: ProcId, reader: Option<Pid>) -> Result<View> {
        let gone = || Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid));
        let owner = owner(id.pid).filter(|_| id.is_alive()).ok_or_else(gone)?;
        let tracer = self.tracers.lease(id).on(|| format!("pid {}", id.pid))?;
        let snapshot = tracer.snapshot(reader, ckptfs_dumper::Purpose::Reading)?;
        let (info, maps, vmas, core) = Default::default();
        Ok(View { id, owner, info, maps, vmas, core, snapshot, _tracer: tracer })
    }

    /// The snapshot of all of `container` that is open, or one of now, known as [`ProcId::CONTAINER`]. `held`: who is held by `freeze`.
    /// Every success must be followed by one [`Snapshots::close`].
    pub fn open_whole(&self, container: &Container, held: &[Pid], reader: Option<Pid>) -> Result<Arc<View>> {
        let id = ProcId::CONTAINER;
        self.views.open(id, || {
            let taken = self.take_whole(container, held, reader);
            match &taken {
                Ok(view) => self.status.dumped(id, &view.snapshot),
                Err(error) => self.status.dump_failed(id, error),
            }
            taken
        })
    }

    fn take_whole(&self, container: &Container, held: &[Pid], reader: Option<Pid>) -> Result<View> {
        let (whose, target) = container.whole()?;
        if let Some(pid) = held.iter().find(|pid| target.root() != Some(**pid)) {
            let sentence = format!(
                "pid {pid} is held by its file freeze, and so cannot be stopped with the rest of the container"
            );
            return Err(Error::new(Kind::Busy, sentence));
        }
        let tracer = self.tracers.lease_of(whose, || target).on(|| "the container")?;
        let snapshot = tracer.snapshot(reader, ckptfs_dumper::Purpose::Reading)?;
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (info, maps, vmas, core) = Default::default();
        Ok(View { id: ProcId::CONTAINER, owner, info, maps, vmas, core, snapshot, _tracer: tracer })
    }

    /// As [`Snapshots::open`], but a process that cannot be dumped gives its reason as the text.
    /// Every success must be followed by one [`Snapshots::close`] or [`Snapshots::close_refusal`].
    pub fn open_info(&self, id: ProcId, reader: Option<Pid>) -> Result<Info> {
        // Somebody reads a refusal now: all read that one, because an inode has one size.
        if let Some(text) = self.refusals.join(id)? {
            return Ok(Info::Refusal(text));
        }
        match self.open(id, reader) {
            Err(error) if error.kind() == Kind::Unsupported => {
                self.refusals.open(id, || refusal_text(id, &error)).map(Info::Refusal)
            }
            opened => opened.map(Info::View),
        }
    }

    /// The open snapshot of `id`, if there is one now.
    pub fn peek(&self, id: ProcId) -> Option<Arc<View>> {
        self.views.peek(id)
    }

    /// The text that stands in place of `info.json` now.
    pub fn peek_refusal(&self, id: ProcId) -> Option<Arc<String>> {
        self.refusals.peek(id)
    }

    /// An open is over. The last one drops the snapshot, which may take some milliseconds.
    pub fn close(&self, id: ProcId, flushed: bool) {
        self.views.close(id, flushed);
    }

    /// An open of a refusal is over.
    pub fn close_refusal(&self, id: ProcId, flushed: bool) {
        self.refusals.close(id, flushed);
    }

    /// See [`Shared::closing`].
    pub fn closing(&self, id: ProcId, flushed: bool) {
        self.views.closing(id, flushed);
    }

    /// See [`Shared::closing`].
    pub fn closing_refusal(&self, id: ProcId, flushed: bool) {
        self.refusals.closing(id, flushed);
    }

    /// All that are open, for `status`.
    pub fn held(&self) -> Vec<Held<ProcId, View>> {
        self.views.held()
    }
}

/// What a live reader gets in place of `info.json`.
#[derive(Serialize)]
struct Refusal {
    pid: Pid,
    error: String,
    errno: String,
}

fn refusal_text(id: ProcId, error: &Error) -> Result<String> {
    let refusal = Refusal { pid: id.pid, error: error.to_string(), errno: errno_name(error.kind()) };
    let text = serde_json::to_string(&refusal).map_err(|error| Error::os(error, libc::EIO))?;
    Ok(text + "\n")
}

//! The snapshots of a mount: those that are open, and those that are pinned. Files read both
//! through the same calls.
//!
//! At most one live snapshot of a process, and one of the container, is open at a time. All handles
//! on its files share it.

use std::ffi::OsStr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use ckptfs_dumper::{Context, Error, Kind, Pid, Result, SnapshotUse};
use serde::Serialize;

use crate::errno::errno_name;
use crate::node::{Of, PinId};
use crate::process::ProcId;
use crate::process::container::{Container, MountTarget};
use crate::state::freezer::Freezer;
use crate::state::open_once::{OpenOnce, OpenValue, Opened};
use crate::state::pins::{Limits, Pins, path_of};
use crate::state::status::Status;
use crate::state::tracers::{Lease, Tracers};
use crate::state::view::{PinReaders, SnapshotView};

/// One open of a live snapshot. Dropping the last one ends the snapshot, which may take some
/// milliseconds.
pub type OpenedLive = Opened<ProcId, SnapshotView>;

/// One open of the text that takes the place of `info.json` for a process that cannot be dumped.
pub type OpenedRefusal = Opened<ProcId, String>;

/// One open of a snapshot. Dropping it closes it.
pub enum OpenedSnapshot {
    /// Of a live process, or of the container.
    Live(OpenedLive),
    /// Of a pinned snapshot. A snapshot that was removed meanwhile ends with its last open.
    Pinned(Arc<PinReaders>),
}

impl OpenedSnapshot {
    /// See [`Opened::set_flushed`].
    pub fn set_flushed(&self, flushed: bool) {
        if let OpenedSnapshot::Live(opened) = self {
            opened.set_flushed(flushed);
        }
    }
}

impl Deref for OpenedSnapshot {
    type Target = SnapshotView;
    fn deref(&self) -> &SnapshotView {
        match self {
            OpenedSnapshot::Live(opened) => opened,
            OpenedSnapshot::Pinned(readers) => readers,
        }
    }
}

/// The result of an open of `info.json`.
pub enum Info {
    /// The process, at one instant.
    Snapshot(OpenedSnapshot),
    /// Why there is no instant of it.
    Refusal(OpenedRefusal),
}

/// All snapshots.
pub struct Snapshots {
    live: Arc<OpenOnce<ProcId, SnapshotView>>,
    pins: Pins,
    /// The texts that take the place of `info.json` for processes that cannot be dumped, while they
    /// are open.
    refusals: Arc<OpenOnce<ProcId, String>>,
    container: Arc<Container>,
    freezer: Arc<Freezer>,
    tracers: Arc<Tracers>,
    status: Arc<Status>,
}

impl Snapshots {
    /// A table with no open and no pinned snapshot.
    pub fn new(
        container: Arc<Container>,
        freezer: Arc<Freezer>,
        tracers: Arc<Tracers>,
        status: Arc<Status>,
        limits: Limits,
    ) -> Snapshots {
        let pins = Pins::new(limits);
        Snapshots { live: OpenOnce::new(), pins, refusals: OpenOnce::new(), container, freezer, tracers, status }
    }

    /// The pinned snapshots.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The instant that a file of `of` is opened with. A container that is one tree has the instant
    /// of the tree, so that both files freeze it once.
    pub fn taken_as(&self, of: Of) -> Of {
        match (of, self.container.target()) {
            (Of::CONTAINER, MountTarget::Tree(_)) => self.container.whole().map_or(of, |(id, _)| Of::Live(id)),
            _ => of,
        }
    }

    /// Opens the instant of `of`: the pinned one, the live one that is open, or a new one, which
    /// blocks until the process continues. `reader` is the process that reads.
    pub fn open(&self, of: Of, reader: Option<Pid>) -> Result<OpenedSnapshot> {
        match of {
            Of::Live(id) => {
                let opened = self.live.open(id, || self.take(id, reader, SnapshotUse::Stream))?;
                if let Err(error) = self.refuse_older(id, &opened) {
                    drop(opened);
                    self.status.dump_failed(id, &error);
                    return Err(error);
                }
                Ok(OpenedSnapshot::Live(opened))
            }
            Of::Pinned(pin) | Of::Within(pin, _) => {
                let gone = || Error::new(Kind::NotFound, format!("pid {}: the pinned snapshot is gone", of.pid()));
                let view = self.pins.view(pin).ok_or_else(gone)?;
                Ok(OpenedSnapshot::Pinned(view.open_pinned()))
            }
        }
    }

    /// Refuses a shared instant that is older than a freeze. A caller that holds a tree by its file
    /// `freeze` wants a current image of the tree, not an earlier one that other callers still
    /// read.
    fn refuse_older(&self, id: ProcId, view: &SnapshotView) -> Result<()> {
        for (held, since) in self.freezer.held_since() {
            let belongs = || {
                id == held || id == ProcId::CONTAINER || self.container.tree_of(held).is_ok_and(|ids| ids.contains(&id))
            };
            if view.requested() < since && belongs() {
                let sentence = format!(
                    "pid {}: an image from before it was frozen is still open, or the directory of a process that reads one",
                    id.pid
                );
                return Err(Error::new(Kind::Busy, sentence));
            }
        }
        Ok(())
    }

    /// One more open of the live instant of `id`, if one is open.
    pub fn join(&self, id: ProcId) -> Result<Option<OpenedLive>> {
        self.live.join(id)
    }

    /// Takes a snapshot and keeps it as `name` in the directory of `pid`. `id` is the process with
    /// that pid, or the container, or `None` if the process has ended. Blocks until the process
    /// continues.
    pub fn pin(&self, pid: Pid, id: Option<ProcId>, name: &OsStr, reader: Option<Pid>) -> Result<PinId> {
        let report = |error| {
            self.status.failed("pin", Some(id.unwrap_or(ProcId::ended(pid))), &error);
            error
        };
        let place = self.pins.reserve(pid, name).map_err(report)?;
        let gone = || report(Error::new(Kind::NoProcess, format!("pid {pid}: no such process")));
        let id = id.ok_or_else(gone)?;
        let view = self.take(id, reader, SnapshotUse::Pin)?;
        log::info!("{}: pinned", place.path().display());
        Ok(place.pin(id, view))
    }

    /// Removes a pinned snapshot. Blocks until the snapshot is freed, unless a file of it is open.
    pub fn unpin(&self, pid: Pid, name: &OsStr) -> Result<PinId> {
        let path = path_of(pid, name);
        let gone = || Error::new(Kind::NotFound, format!("{}: no such snapshot", path.display()));
        let (pin, view) = self.pins.remove(pid, name).ok_or_else(gone)?;
        drop(view);
        log::info!("{}: no longer pinned", path.display());
        Ok(pin)
    }

    fn take(&self, id: ProcId, reader: Option<Pid>, purpose: SnapshotUse) -> Result<SnapshotView> {
        let requested = Instant::now();
        let taken =
            self.tracer(id).and_then(|tracer| SnapshotView::new(tracer.snapshot(reader, purpose)?, tracer, requested));
        match &taken {
            Ok(view) => self.status.dumped(id, view),
            Err(error) => self.status.dump_failed(id, error),
        }
        taken
    }

    /// The tracer that stops `id`, or all of the container.
    fn tracer(&self, id: ProcId) -> Result<Lease> {
        if id != ProcId::CONTAINER {
            if !id.is_alive() {
                return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
            }
            let mut held = self.freezer.held();
            held.retain(|pid| *pid != id.pid);
            if !held.is_empty() {
                let members = self.container.tree_of(id)?;
                held.retain(|pid| members.iter().any(|id| id.pid == *pid));
                refuse_held(&held, "the tree")?;
            }
            return self.tracers.lease(id).on(|| format!("pid {}", id.pid));
        }
        let (tracer_id, target) = self.container.whole()?;
        let mut held = self.freezer.held();
        held.retain(|pid| target.root() != Some(*pid));
        refuse_held(&held, "the container")?;
        self.tracers.lease_of(tracer_id, || target).on(|| "the container")
    }

    /// Like [`Snapshots::open`] of a live process, but for a process that cannot be dumped it
    /// returns the reason as a text.
    pub fn open_info(&self, id: ProcId, reader: Option<Pid>) -> Result<Info> {
        // While a refusal is open all opens share it, because an inode has one size.
        if let Some(text) = self.refusals.join(id)? {
            return Ok(Info::Refusal(text));
        }
        match self.open(Of::Live(id), reader) {
            Err(error) if error.kind() == Kind::Unsupported => {
                self.refusals.open(id, || refusal_text(id, &error)).map(Info::Refusal)
            }
            opened => opened.map(Info::Snapshot),
        }
    }

    /// The instant of `of` that is open or pinned, if there is one now.
    pub fn peek(&self, of: Of) -> Option<Arc<SnapshotView>> {
        match of {
            Of::Live(id) => self.live.peek(id),
            Of::Pinned(pin) | Of::Within(pin, _) => self.pins.peek(pin),
        }
    }

    /// The text that takes the place of `info.json` now.
    pub fn peek_refusal(&self, id: ProcId) -> Option<Arc<String>> {
        self.refusals.peek(id)
    }

    /// Waits a moment until images of `id`, and of the container, that were closed are released.
    pub fn settle(&self, id: ProcId) {
        [id, ProcId::CONTAINER].into_iter().for_each(|key| self.live.settle(key));
    }

    /// All live snapshots that are open, for `status`.
    pub fn all_open(&self) -> Vec<OpenValue<ProcId, SnapshotView>> {
        self.live.all_open()
    }
}

fn refuse_held(held: &[Pid], whole: &str) -> Result<()> {
    let Some(pid) = held.first() else { return Ok(()) };
    let sentence = format!("pid {pid} is held by its file freeze, and so cannot be stopped with the rest of {whole}");
    Err(Error::new(Kind::Busy, sentence))
}

/// The text that a reader gets in place of `info.json`.
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

//! The snapshots: those that are open, one per live process and one of the container, shared by all handles on its files; and those that
//! are pinned. Both are asked for by the same calls.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use ckptfs_dumper::{Context, Error, Kind, Pid, Result, SnapshotUse};
use serde::Serialize;

use crate::errno::errno_name;
use crate::node::{Of, PinId};
use crate::process::ProcId;
use crate::process::container::{Container, MountTarget};
use crate::state::freezer::Freezer;
use crate::state::open_once::{Held, OpenOnce};
use crate::state::pins::{Limits, Pins, path_of};
use crate::state::status::Status;
use crate::state::tracers::{Lease, Tracers};
use crate::state::view::SnapshotView;

/// What an open of `info.json` found.
pub enum Info {
    /// The process, at one instant.
    View(Arc<SnapshotView>),
    /// Why there is no instant of it.
    Refusal(Arc<String>),
}

/// All snapshots.
pub struct Snapshots {
    live: OpenOnce<ProcId, SnapshotView>,
    pins: Pins,
    /// The texts that stand in place of `info.json` of processes that cannot be dumped, while they are open.
    refusals: OpenOnce<ProcId, String>,
    container: Arc<Container>,
    freezer: Arc<Freezer>,
    tracers: Arc<Tracers>,
    status: Arc<Status>,
}

impl Snapshots {
    /// None is open, none is pinned.
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

    /// Those that are pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Whose instant a file of `of` is opened as: the container's is that of its tree, where it is no more than one, so that both are
    /// frozen at once.
    pub fn taken_as(&self, of: Of) -> Of {
        match (of, self.container.target()) {
            (Of::CONTAINER, MountTarget::Tree(_)) => self.container.whole().map_or(of, |(whose, _)| Of::Live(whose)),
            _ => of,
        }
    }

    /// The instant of `of`: the pinned one, the one that is open, or one of now, which blocks until the process goes on again.
    /// Every success must be followed by one [`Snapshots::close`].
    pub fn open(&self, of: Of, reader: Option<Pid>) -> Result<Arc<SnapshotView>> {
        match of {
            Of::Live(id) => {
                let view = self.live.open(id, || self.take(id, reader, SnapshotUse::Stream))?;
                if let Err(error) = self.refuse_older(id, &view) {
                    drop(view);
                    self.live.close(id, false);
                    self.status.dump_failed(id, &error);
                    return Err(error);
                }
                Ok(view)
            }
            Of::Pinned(pin) | Of::Within(pin, _) => {
                let gone = || Error::new(Kind::NotFound, format!("pid {}: the pinned snapshot is gone", of.pid()));
                let view = self.pins.view(pin).ok_or_else(gone)?;
                view.open();
                Ok(view)
            }
        }
    }

    /// Whoever holds a tree by its file `freeze` wants an image of it as it stands, not one of before that others still read.
    fn refuse_older(&self, id: ProcId, view: &SnapshotView) -> Result<()> {
        for (held, since) in self.freezer.held_since() {
            let belongs = || {
                id == held || id == ProcId::CONTAINER || self.container.tree_of(held).is_ok_and(|ids| ids.contains(&id))
            };
            if view.begun() < since && belongs() {
                let sentence = format!(
                    "pid {}: an image of before it was frozen is still open, or a directory of somebody who reads one",
                    id.pid
                );
                return Err(Error::new(Kind::Busy, sentence));
            }
        }
        Ok(())
    }

    /// One more open of the live instant of `id`, if there is one. To be followed by one [`Snapshots::close`].
    pub fn join(&self, id: ProcId) -> Result<Option<Arc<SnapshotView>>> {
        self.live.join(id)
    }

    /// Takes a snapshot of a process, or of the container, and keeps it as `name` in the directory of `pid`, whose process `id` is, if it
    /// lives. Blocks until the process goes on again.
    pub fn pin(&self, pid: Pid, id: Option<ProcId>, name: &OsStr, reader: Option<Pid>) -> Result<PinId> {
        let told = |error| {
            self.status.failed("pin", Some(pid), &error);
            error
        };
        let place = self.pins.reserve(pid, name).map_err(told)?;
        let gone = || told(Error::new(Kind::NoProcess, format!("pid {pid}: no such process")));
        let id = id.ok_or_else(gone)?;
        let view = self.take(id, reader, SnapshotUse::Pin)?;
        log::info!("{}: pinned", place.path().display());
        Ok(place.pin(id, view))
    }

    /// Forgets a pinned snapshot. Blocks until nothing is left of it, unless somebody has a file of it open.
    pub fn unpin(&self, pid: Pid, name: &OsStr) -> Result<PinId> {
        let path = path_of(pid, name);
        let gone = || Error::new(Kind::NotFound, format!("{}: no such snapshot", path.display()));
        let (pin, view) = self.pins.remove(pid, name).ok_or_else(gone)?;
        drop(view);
        log::info!("{}: no longer pinned", path.display());
        Ok(pin)
    }

    fn take(&self, id: ProcId, reader: Option<Pid>, purpose: SnapshotUse) -> Result<SnapshotView> {
        let begun = Instant::now();
        let taken =
            self.tracer(id).and_then(|tracer| SnapshotView::new(tracer.snapshot(reader, purpose)?, tracer, begun));
        match &taken {
            Ok(view) => self.status.dumped(id, view),
            Err(error) => self.status.dump_failed(id, error),
        }
        taken
    }

    /// Who stops `id`, or all of the container.
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
        let (whose, target) = self.container.whole()?;
        let mut held = self.freezer.held();
        held.retain(|pid| target.root() != Some(*pid));
        refuse_held(&held, "the container")?;
        self.tracers.lease_of(whose, || target).on(|| "the container")
    }

    /// As [`Snapshots::open`] of a live process, but one that cannot be dumped gives its reason as the text.
    /// Every success must be followed by one [`Snapshots::close`] or [`Snapshots::close_refusal`].
    pub fn open_info(&self, id: ProcId, reader: Option<Pid>) -> Result<Info> {
        // Somebody reads a refusal now: all read that one, because an inode has one size.
        if let Some(text) = self.refusals.join(id)? {
            return Ok(Info::Refusal(text));
        }
        match self.open(Of::Live(id), reader) {
            Err(error) if error.kind() == Kind::Unsupported => {
                self.refusals.open(id, || refusal_text(id, &error)).map(Info::Refusal)
            }
            opened => opened.map(Info::View),
        }
    }

    /// The instant of `of` that is open or pinned, if there is one now.
    pub fn peek(&self, of: Of) -> Option<Arc<SnapshotView>> {
        match of {
            Of::Live(id) => self.live.peek(id),
            Of::Pinned(pin) | Of::Within(pin, _) => self.pins.peek(pin),
        }
    }

    /// The text that stands in place of `info.json` now.
    pub fn peek_refusal(&self, id: ProcId) -> Option<Arc<String>> {
        self.refusals.peek(id)
    }

    /// An open is over. The last one drops the snapshot, which may take some milliseconds; a pinned one that is removed was its opener's to
    /// drop.
    pub fn close(&self, of: Of, flushed: bool) {
        match of {
            Of::Live(id) => self.live.close(id, flushed),
            Of::Pinned(pin) | Of::Within(pin, _) => {
                if let Some(view) = self.pins.peek(pin) {
                    view.close();
                }
            }
        }
    }

    /// Waits a moment for images of `id`, or of the container, that have been closed to be given up.
    pub fn settle(&self, id: ProcId) {
        [id, ProcId::CONTAINER].into_iter().for_each(|key| self.live.settle(key));
    }

    /// An open of a refusal is over.
    pub fn close_refusal(&self, id: ProcId, flushed: bool) {
        self.refusals.close(id, flushed);
    }

    /// See [`OpenOnce::closing`].
    pub fn closing(&self, of: Of, flushed: bool) {
        if let Of::Live(id) = of {
            self.live.closing(id, flushed);
        }
    }

    /// See [`OpenOnce::closing`].
    pub fn closing_refusal(&self, id: ProcId, flushed: bool) {
        self.refusals.closing(id, flushed);
    }

    /// All that are open, for `status`.
    pub fn held(&self) -> Vec<Held<ProcId, SnapshotView>> {
        self.live.held()
    }
}

fn refuse_held(held: &[Pid], whole: &str) -> Result<()> {
    let Some(pid) = held.first() else { return Ok(()) };
    let sentence = format!("pid {pid} is held by its file freeze, and so cannot be stopped with the rest of {whole}");
    Err(Error::new(Kind::Busy, sentence))
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

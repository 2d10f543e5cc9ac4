//! The snapshots of a mount: those that are open, and those that are pinned. Files read both
//! through the same calls.
//!
//! The handles that one caller has open on a process share one live snapshot. An open by another
//! caller takes its own.

use std::ffi::OsStr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use ckptfs_dumper::{Context, Doing, Error, Kind, Pid, Result, SnapshotUse};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

use crate::errno::errno_name;
use crate::node::{ApartId, Of, PinId};
use crate::process::ProcId;
use crate::process::caller::Viewer;
use crate::process::container::{Container, MountTarget};
use crate::state::freezer::Freezer;
use crate::state::open_once::{OpenOnce, OpenValue, Opened, Share};
use crate::state::pins::{Limits, Pins, path_of};
use crate::state::quota::{Bounds, Place, Quota, USERS};
use crate::state::status::{Status, owner_of};
use crate::state::tracers::{Lease, Tracers};
use crate::state::view::{PinReaders, SnapshotView};

/// One open of a live snapshot. Dropping the last one ends the snapshot, which may take some
/// milliseconds.
pub type OpenedLive = Opened<Of, SnapshotView>;

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

/// How many live snapshots one user other than root may have open, or on their way, at a time.
const MOST_OF_A_USER: u64 = 32;

/// How many descriptors the daemon holds for a process of a snapshot, with some to spare.
const DESCRIPTORS: u64 = 4;

/// The caller of an open.
#[derive(Clone, Copy)]
pub struct Opener {
    /// Its process, or `None` if that is in a pid namespace outside the daemon's.
    pub reader: Option<Pid>,
    /// Its user.
    pub uid: u32,
    /// Whether it has the instant open already.
    pub holds: bool,
}

impl Opener {
    fn share(self) -> Share {
        Share::Held { reader: self.reader, holds: self.holds }
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
    live: Arc<OpenOnce<Of, SnapshotView>>,
    pins: Pins,
    /// The texts that take the place of `info.json` for processes that cannot be dumped, while they
    /// are open.
    refusals: Arc<OpenOnce<ProcId, String>>,
    container: Arc<Container>,
    freezer: Arc<Freezer>,
    tracers: Arc<Tracers>,
    status: Arc<Status>,
    /// How many live snapshots each user has.
    instants: Arc<Quota>,
    /// How many processes all snapshots of each user have.
    copies: Arc<Quota>,
    /// How many processes are held open while it is found out what a user may read about them.
    watched: Arc<Quota>,
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
        let (pins, live, refusals) = (Pins::new(limits), OpenOnce::new(), OpenOnce::new());
        let (instants, copies, watched) = (Quota::new(), Quota::new(), Quota::new());
        Snapshots { live, pins, refusals, container, freezer, tracers, status, instants, copies, watched }
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

    /// Opens the instant of `of`: the pinned one, the live one that the caller has open, or a new
    /// one, which blocks until the process continues. `None` means that only other callers have the
    /// live one open.
    pub fn open(&self, of: Of, by: Opener) -> Result<Option<OpenedSnapshot>> {
        match of {
            Of::Live(id) | Of::Apart(ApartId { of: id, .. }) => {
                let take = || self.take(id, by.reader, by.uid, SnapshotUse::Stream);
                let Some(opened) = self.live.open(of, by.share(), take)? else { return Ok(None) };
                if let Err(error) = self.refuse_older(id, &opened) {
                    drop(opened);
                    self.status.dump_failed(id, owner_of(id), &error);
                    return Err(error);
                }
                Ok(Some(OpenedSnapshot::Live(opened)))
            }
            Of::Pinned(pin) | Of::Within(pin, _) => {
                let gone = || Error::new(Kind::NotFound, format!("pid {}: the pinned snapshot is gone", of.pid()));
                let view = self.pins.view(pin).ok_or_else(gone)?;
                Ok(Some(OpenedSnapshot::Pinned(view.open_pinned())))
            }
        }
    }

    /// What a snapshot of `id` takes of what the user `uid` may have. Refuses a user that has too
    /// much already, before any process is stopped. Returns the places, and how many processes they
    /// are for.
    fn room(&self, id: ProcId, uid: u32, purpose: SnapshotUse) -> Result<(Vec<Place>, usize)> {
        if Viewer::of(uid) == Viewer::All {
            return Ok((Vec::new(), 0));
        }
        let refuse = |why: String| Error::os(format!("pid {}: {why}", id.pid), libc::EMFILE);
        let mut places = Vec::new();
        if purpose == SnapshotUse::Stream {
            let most = Bounds::of_user(MOST_OF_A_USER);
            let full = |_| {
                refuse(format!(
                    "user {uid} has {MOST_OF_A_USER} snapshots open already, or all users {USERS} times as many"
                ))
            };
            places.push(self.instants.take(most, uid, 1).map_err(full)?);
        }
        let processes = if id == ProcId::CONTAINER { self.container.members()? } else { self.container.tree_of(id)? };
        let processes = processes.len();
        places.extend(self.room_for_copies(id, uid, processes)?);
        Ok((places, processes))
    }

    /// Room for so many processes in snapshots of the user `uid`.
    fn room_for_copies(&self, id: ProcId, uid: u32, processes: usize) -> Result<Option<Place>> {
        if processes == 0 || Viewer::of(uid) == Viewer::All {
            return Ok(None);
        }
        let most = most_processes()?;
        let full = |_| {
            let least = most.user;
            let sentence = format!(
                "pid {}: user {uid} may have {least} processes in its snapshots, and all users twice as many (a sixteenth and an eighth of the daemon's RLIMIT_NOFILE)",
                id.pid
            );
            Error::os(sentence, libc::EMFILE)
        };
        self.copies.take(most, uid, processes as u64).map_err(full).map(Some)
    }

    /// Room for the descriptors of a [`crate::process::rights::Witness`] of so many processes of
    /// `id`, for the user `uid`.
    pub fn room_to_watch(&self, id: ProcId, uid: u32, processes: usize) -> Result<Option<Place>> {
        if processes == 0 {
            return Ok(None);
        }
        let most = most_processes()?;
        let full = |_| {
            let sentence = format!("pid {}: user {uid} has too many processes examined at a time", id.pid);
            Error::os(sentence, libc::EMFILE)
        };
        self.watched.take(most, uid, processes as u64).map_err(full).map(Some)
    }

    /// Refuses a shared instant that is older than a freeze. A caller that holds a tree by its file
    /// `freeze` wants a current image of the tree, not an earlier one that it has open itself.
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

    /// One more open of the live instant of `of`, if one is open.
    pub fn join(&self, of: Of) -> Result<Option<OpenedLive>> {
        self.live.join(of)
    }

    /// The live instants of `id` that are open.
    pub fn open_of(&self, id: ProcId) -> Vec<Of> {
        let mut keys = self.live.open_keys();
        keys.retain(|of| of.live() == Some(id));
        keys
    }

    /// Takes a snapshot and keeps it as `name` in the directory of `pid`. `id` is the process with
    /// that pid, or the container, or `None` if the process has ended. Blocks until the process
    /// continues.
    pub fn pin(&self, pid: Pid, id: Option<ProcId>, name: &OsStr, reader: Option<Pid>, uid: u32) -> Result<PinId> {
        let report = |error| {
            self.status.failed("pin", id.unwrap_or(ProcId::ended(pid)), &error);
            error
        };
        let place = self.pins.reserve(pid, name, uid).map_err(report)?;
        let gone = || report(Error::new(Kind::NoProcess, format!("pid {pid}: no such process")));
        let id = id.ok_or_else(gone)?;
        let view = self.take(id, reader, uid, SnapshotUse::Pin)?;
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

    fn take(&self, id: ProcId, reader: Option<Pid>, uid: u32, purpose: SnapshotUse) -> Result<SnapshotView> {
        let (requested, owner) = (Instant::now(), owner_of(id));
        let view = || {
            let (mut places, expected) = self.room(id, uid, purpose)?;
            let tracer = self.tracer(id)?;
            let snapshot = tracer.acting_for(uid).snapshot(reader, purpose)?;
            let view = SnapshotView::new(snapshot, tracer, requested)?;
            // The tree may have grown since there was room for it.
            let more = view.pids().count().saturating_sub(expected);
            places.extend(self.room_for_copies(id, uid, more)?);
            Ok(view.opened_by(uid).holding(places))
        };
        let taken = view();
        match &taken {
            Ok(view) => self.status.dumped(id, view),
            Err(error) => self.status.dump_failed(id, owner, error),
        }
        taken
    }

    /// The tracer that stops `id`, or all of the container.
    fn tracer(&self, id: ProcId) -> Result<Lease> {
        if id != ProcId::CONTAINER {
            if !id.is_alive() {
                return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
            }
            self.refuse_held_in(id)?;
            return self.tracers.lease(id).on(|| format!("pid {}", id.pid));
        }
        let (tracer_id, target) = self.container.whole()?;
        let mut held = self.freezer.held();
        held.retain(|id| target.root() != Some(id.pid));
        refuse_held(&held, "the container")?;
        self.tracers.lease_of(tracer_id, || target).on(|| "the container")
    }

    /// Refuses a tree with a process that is held by the file `freeze` of its own.
    fn refuse_held_in(&self, id: ProcId) -> Result<()> {
        let mut held = self.freezer.held();
        held.retain(|held| held.pid != id.pid);
        if !held.is_empty() {
            let members = self.container.tree_of(id)?;
            held.retain(|held| members.iter().any(|id| id.pid == held.pid));
        }
        refuse_held(&held, "the tree")
    }

    /// Everything that would refuse an image of `id` for `reader`, as far as it shows while the
    /// processes run. No process is stopped.
    pub fn check(&self, id: ProcId, reader: Option<Pid>) -> Result<Vec<Error>> {
        if !id.is_alive() {
            return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
        }
        let held = self.refuse_held_in(id).err();
        let found = self.tracers.lease(id)?.check(reader)?;
        Ok(held.into_iter().chain(found).collect())
    }

    /// Like [`Snapshots::open`] of a live process, but for a process that cannot be dumped it
    /// returns the reason as a text.
    pub fn open_info(&self, of: Of, id: ProcId, by: Opener) -> Result<Option<Info>> {
        // While a refusal is open all opens share it, because an inode has one size.
        if let Some(text) = self.refusals.join(id)? {
            return Ok(Some(Info::Refusal(text)));
        }
        match self.open(of, by) {
            Err(error) if error.kind() == Kind::Unsupported => {
                let opened = self.refusals.open(id, Share::Always, || refusal_text(id, &error))?;
                Ok(opened.map(Info::Refusal))
            }
            opened => Ok(opened?.map(Info::Snapshot)),
        }
    }

    /// The instant of `of` that is open or pinned, if there is one now.
    pub fn peek(&self, of: Of) -> Option<Arc<SnapshotView>> {
        match of {
            Of::Live(_) | Of::Apart(_) => self.live.peek(of),
            Of::Pinned(pin) | Of::Within(pin, _) => self.pins.peek(pin),
        }
    }

    /// The text that takes the place of `info.json` now.
    pub fn peek_refusal(&self, id: ProcId) -> Option<Arc<String>> {
        self.refusals.peek(id)
    }

    /// Waits a moment until images of `id`, and of the container, that were closed are released.
    pub fn settle(&self, id: ProcId) {
        let shows = |of: &Of| of.live().is_some_and(|shown| shown == id || shown == ProcId::CONTAINER);
        self.live.keys().into_iter().filter(shows).for_each(|of| self.live.settle(of));
    }

    /// All live snapshots that are open, for `status`.
    pub fn all_open(&self) -> Vec<OpenValue<Of, SnapshotView>> {
        self.live.all_open()
    }
}

/// How many processes the users may have in their snapshots: a descriptor or some for each.
fn most_processes() -> Result<Bounds> {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).doing(|| "reading the limit of descriptors")?.0;
    let all = descriptors / DESCRIPTORS;
    Ok(Bounds { user: all / 4, users: all / 2, all: u64::MAX })
}

fn refuse_held(held: &[ProcId], whole: &str) -> Result<()> {
    let Some(ProcId { pid, .. }) = held.first() else { return Ok(()) };
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

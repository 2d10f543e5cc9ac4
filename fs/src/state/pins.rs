//! The pinned snapshots, by the directory that lists them and their name there.
//!
//! A removed snapshot lives on while a file of it is open, like an unlinked file.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use ckptfs_dumper::{Error, Kind, Pid, Result};
use parking_lot::Mutex;

use crate::node::PinId;
use crate::process::ProcId;
use crate::state::quota::{Bounds, Full, Place, Quota};
use crate::state::view::SnapshotView;

/// The longest name, bytes (limits.h).
const NAME_MAX: usize = 255;

/// How many snapshots may be pinned, and how much memory they may hold when another one is
/// requested. A user other than root may have half of each, and a quarter is kept for root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `-o pinned-max`
    pub count: usize,
    /// `-o pinned-memory`, bytes.
    pub memory: Option<u64>,
}

/// Opens a descriptor that keeps the mount in use.
pub type HoldMount = Box<dyn Fn() -> Option<OwnedFd> + Send + Sync>;

/// All pinned snapshots.
pub struct Pins {
    limits: Limits,
    /// How many snapshots each user has, including those that are removed and still open.
    counts: Arc<Quota>,
    /// Absent until the mount is made.
    hold_mount: OnceLock<HoldMount>,
    /// A leaf lock: snapshots are taken and dropped outside of it.
    state: Mutex<PinState>,
}

#[derive(Default)]
struct PinState {
    /// The last number that was given to a pin.
    last: u64,
    /// `None` while the snapshot is being taken.
    names: BTreeMap<(Pid, OsString), Option<PinId>>,
    views: HashMap<PinId, PinnedUse>,
    /// What each snapshot with a name keeps the mount in use by.
    holds: HashMap<PinId, OwnedFd>,
    /// When each directory last changed.
    changed: HashMap<Pid, SystemTime>,
}

enum PinnedUse {
    Named(Arc<SnapshotView>),
    /// It was removed, but files of it may be open.
    Removed(Weak<SnapshotView>),
}

/// A pinned snapshot, for `status`.
pub struct Pinned {
    /// Its identity.
    pub pin: PinId,
    /// Relative to the mountpoint.
    pub path: PathBuf,
    /// The snapshot.
    pub view: Arc<SnapshotView>,
}

/// The path of `name` in the directory of `pid`, relative to the mountpoint.
pub fn path_of(pid: Pid, name: &OsStr) -> PathBuf {
    let folder = if pid == ProcId::CONTAINER.pid { PathBuf::new() } else { PathBuf::from(pid.to_string()) };
    folder.join("snapshots").join(name)
}

impl Pins {
    /// A table without snapshots.
    pub fn new(limits: Limits) -> Pins {
        Pins { limits, counts: Quota::new(), hold_mount: OnceLock::new(), state: Mutex::default() }
    }

    /// From now on every snapshot with a name keeps the mount in use.
    pub fn hold_mount_by(&self, hold: HoldMount) {
        let _is_set_once = self.hold_mount.set(hold);
    }

    /// The snapshots no longer keep the mount in use.
    pub fn release_mount(&self) {
        let holds = std::mem::take(&mut self.state.lock().holds);
        drop(holds);
    }

    /// Adds a snapshot without a name, for the life of the mount: the image that the whole mount
    /// shows.
    pub fn add_unnamed(&self, of: ProcId, view: SnapshotView) -> PinId {
        let pin = PinId { number: 0, of };
        self.state.lock().views.insert(pin, PinnedUse::Named(Arc::new(view)));
        pin
    }

    /// Reserves `name` in the directory of `pid` for a snapshot of the user `uid`.
    ///
    /// # Errors
    /// EEXIST, ENAMETOOLONG, ENOSPC.
    pub fn reserve(&self, pid: Pid, name: &OsStr, uid: u32) -> Result<Reservation<'_>> {
        let subject = path_of(pid, name);
        let refuse = |errno, why: &str| Err(Error::new(Kind::System(errno), format!("{}: {why}", subject.display())));
        if name.len() > NAME_MAX {
            return refuse(libc::ENAMETOOLONG, "the name is longer than 255 bytes");
        }
        // Measured and counted before the lock. This is wasted if the name is taken.
        let room = self.check_memory(uid);
        let most = self.limits.count;
        let counted = self.counts.take(Bounds::shares_of(most as u64), uid, 1);
        let mut state = self.state.lock();
        let at = (pid, name.to_owned());
        if state.names.contains_key(&at) {
            return refuse(libc::EEXIST, "a snapshot with this name exists already");
        }
        let counted = match counted {
            Ok(counted) => counted,
            Err(Full::All(pinned)) => {
                let why = format!("{pinned} snapshots are pinned already (-o pinned-max={most})");
                return refuse(libc::ENOSPC, &why);
            }
            Err(Full::User(pinned)) => {
                let why = format!("user {uid} has pinned {pinned} snapshots already, half of -o pinned-max={most}");
                return refuse(libc::ENOSPC, &why);
            }
            Err(Full::Users(pinned)) => {
                let why =
                    format!("users other than root have pinned {pinned} snapshots already (-o pinned-max={most})");
                return refuse(libc::ENOSPC, &why);
            }
        };
        if let Err(why) = room {
            return refuse(libc::ENOSPC, &why);
        }
        state.names.insert(at.clone(), None);
        Ok(Reservation { pins: self, at, counted: Some(counted) })
    }

    /// Whether the memory of all snapshots, including those that are removed and still open, leaves
    /// room for one more of the user `uid`. Otherwise returns the reason.
    fn check_memory(&self, uid: u32) -> std::result::Result<(), String> {
        let Some(most) = self.limits.memory else { return Ok(()) };
        let views: Vec<Arc<SnapshotView>> = self.state.lock().views.values().filter_map(PinnedUse::get).collect();
        let mut held: HashMap<u32, u64> = HashMap::new();
        for view in views {
            let of_user = held.entry(view.opener().unwrap_or(0)).or_default();
            *of_user = of_user.saturating_add(view.memory());
        }
        match Bounds::shares_of(most).check(&held, uid, 1) {
            Ok(()) => Ok(()),
            Err(Full::All(bytes)) => {
                Err(format!("pinned snapshots hold {bytes} bytes of memory already (-o pinned-memory={most})"))
            }
            Err(Full::User(bytes)) => {
                Err(format!("user {uid} holds {bytes} bytes in pinned snapshots, half of -o pinned-memory={most}"))
            }
            Err(Full::Users(bytes)) => Err(format!(
                "users other than root hold {bytes} bytes in pinned snapshots already (-o pinned-memory={most})"
            )),
        }
    }

    /// The entries of the directory of `pid`.
    pub fn names(&self, pid: Pid) -> Vec<(OsString, PinId)> {
        let state = self.state.lock();
        let here = state.names.range((pid, OsString::new())..).take_while(|((owner, _), _)| *owner == pid);
        here.filter_map(|((_, name), pin)| Some((name.clone(), (*pin)?))).collect()
    }

    /// The snapshot with that name.
    pub fn find(&self, pid: Pid, name: &OsStr) -> Option<PinId> {
        self.state.lock().names.get(&(pid, name.to_owned())).copied().flatten()
    }

    /// Whether the snapshot exists and is not removed.
    pub fn holds(&self, pin: PinId) -> bool {
        matches!(self.state.lock().views.get(&pin), Some(PinnedUse::Named(_)))
    }

    /// The snapshot, if it is not removed.
    pub fn view(&self, pin: PinId) -> Option<Arc<SnapshotView>> {
        match self.state.lock().views.get(&pin) {
            Some(PinnedUse::Named(view)) => Some(Arc::clone(view)),
            _ => None,
        }
    }

    /// The snapshot, if it is not removed or a file of it is open.
    pub fn peek(&self, pin: PinId) -> Option<Arc<SnapshotView>> {
        self.state.lock().views.get(&pin).and_then(PinnedUse::get)
    }

    /// The newest snapshot in the directory of `pid`.
    pub fn last_of(&self, pid: Pid) -> Option<PinId> {
        self.names(pid).into_iter().map(|(_, pin)| pin).max()
    }

    /// The newest snapshot of each directory except the container's, ascending by pid.
    pub fn last_of_each(&self) -> Vec<PinId> {
        let mut last: BTreeMap<Pid, PinId> = BTreeMap::new();
        for ((pid, _), pin) in &self.state.lock().names {
            if let (Some(pin), true) = (*pin, *pid != ProcId::CONTAINER.pid) {
                last.entry(*pid).and_modify(|known| *known = pin.max(*known)).or_insert(pin);
            }
        }
        last.into_values().collect()
    }

    /// When the directory of `pid` last changed, if it has.
    pub fn changed(&self, pid: Pid) -> Option<SystemTime> {
        self.state.lock().changed.get(&pid).copied()
    }

    /// Drops the change times of directories that no longer exist.
    pub fn prune(&self, exists: impl Fn(Pid) -> bool) {
        let PinState { names, changed, .. } = &mut *self.state.lock();
        changed.retain(|pid, _| exists(*pid) || names.keys().any(|(owner, _)| owner == pid));
    }

    /// Removes the name and returns the snapshot. Open files of it stay readable.
    pub fn remove(&self, pid: Pid, name: &OsStr) -> Option<(PinId, Arc<SnapshotView>)> {
        let mut state = self.state.lock();
        let place = (pid, name.to_owned());
        let pin = state.names.get(&place).copied().flatten()?;
        state.names.remove(&place);
        state.changed.insert(pid, SystemTime::now());
        let hold = state.holds.remove(&pin);
        let view = state.remove_view(pin);
        drop(state);
        drop(hold);
        Some((pin, view?))
    }

    /// Renames a snapshot in its directory.
    ///
    /// # Errors
    /// ENOENT, ENAMETOOLONG, and EEXIST because a snapshot is never replaced.
    pub fn rename(&self, pid: Pid, name: &OsStr, new: &OsStr) -> Result<()> {
        let refuse = |errno, name| Err(Error::new(Kind::System(errno), path_of(pid, name).display().to_string()));
        let mut state = self.state.lock();
        let (from, to) = ((pid, name.to_owned()), (pid, new.to_owned()));
        let Some(pin) = state.names.get(&from).copied().flatten() else { return refuse(libc::ENOENT, name) };
        if from == to {
            return Ok(());
        }
        if state.names.contains_key(&to) {
            return refuse(libc::EEXIST, new);
        }
        if new.len() > NAME_MAX {
            return refuse(libc::ENAMETOOLONG, new);
        }
        state.names.remove(&from);
        state.names.insert(to, Some(pin));
        state.changed.insert(pid, SystemTime::now());
        Ok(())
    }

    /// All snapshots that have a name.
    pub fn all(&self) -> Vec<Pinned> {
        let state = self.state.lock();
        let pinned = state.names.iter().filter_map(|((pid, name), pin)| {
            let pin = (*pin)?;
            Some(Pinned { pin, path: path_of(*pid, name), view: state.views.get(&pin)?.get()? })
        });
        pinned.collect()
    }

    /// Removes all snapshots and returns their paths. No view is dropped inside the lock.
    pub fn clear(&self) -> Vec<PathBuf> {
        let all = self.all();
        let old = std::mem::take(&mut *self.state.lock());
        drop(old);
        all.into_iter().map(|pinned| pinned.path).collect()
    }
}

impl PinState {
    /// Removes a snapshot from the table, but keeps a weak reference while files of it are open.
    fn remove_view(&mut self, pin: PinId) -> Option<Arc<SnapshotView>> {
        self.views.retain(|_, kept| match kept {
            PinnedUse::Named(_) => true,
            PinnedUse::Removed(view) => view.strong_count() > 0,
        });
        let kept = self.views.get_mut(&pin)?;
        let view = kept.get()?;
        *kept = PinnedUse::Removed(Arc::downgrade(&view));
        Some(view)
    }
}

impl PinnedUse {
    fn get(&self) -> Option<Arc<SnapshotView>> {
        match self {
            PinnedUse::Named(view) => Some(Arc::clone(view)),
            PinnedUse::Removed(view) => view.upgrade(),
        }
    }
}

/// A reserved name. Drop frees it again, if no snapshot was pinned.
pub struct Reservation<'a> {
    pins: &'a Pins,
    at: (Pid, OsString),
    counted: Option<Place>,
}

impl Reservation<'_> {
    /// Relative to the mountpoint.
    pub fn path(&self) -> PathBuf {
        path_of(self.at.0, &self.at.1)
    }

    /// Pins `view`, a snapshot of `of`, under the name.
    pub fn pin(mut self, of: ProcId, view: SnapshotView) -> PinId {
        let hold = self.pins.hold_mount.get().and_then(|hold| hold());
        let mut state = self.pins.state.lock();
        state.last += 1;
        let pin = PinId { number: state.last, of };
        state.holds.extend(hold.map(|hold| (pin, hold)));
        state.views.insert(pin, PinnedUse::Named(Arc::new(view.holding(self.counted.take()))));
        state.names.insert(self.at.clone(), Some(pin));
        state.changed.insert(self.at.0, SystemTime::now());
        pin
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.pins.state.lock();
        if state.names.get(&self.at) == Some(&None) {
            state.names.remove(&self.at);
        }
    }
}

//! One instant as the files of the mount show it. Files read a live, pinned or stored instant only
//! through this view.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ckptfs_dumper::{Checkpoint, Core, Doing, Error, Identity, Key, Kind, Pid, Result, Snapshot, StoredImage, VmaView};
use parking_lot::Mutex;

use crate::process::caller::Viewer;
use crate::process::{Range, has_ended, owner, rights};
use crate::state::quota::Place;
use crate::state::tracers::Lease;

/// How long a measured memory cost of a snapshot is reused, because measuring it walks page tables.
const MEMORY_AGE: Duration = Duration::from_secs(1);

/// A checkpoint, the owners of its processes, and what was computed from it. It derefs to the
/// [`Checkpoint`] itself.
pub struct SnapshotView {
    processes: BTreeMap<Pid, ProcessFiles>,
    /// The daemon's user and group, or those of the file for a stored image.
    default_owner: (u32, u32),
    /// When the snapshot was requested.
    requested: Instant,
    /// The user that has opened or pinned it.
    opener: Option<u32>,
    /// All open files of a pinned snapshot share this. A leaf lock.
    readers: Mutex<Weak<PinReaders>>,
    /// When the memory cost was last measured, and its bytes. A leaf lock.
    memory: Mutex<Option<(Instant, u64)>>,
    // Fields drop in this order: what the source takes is free only once it has ended.
    source: Source,
    /// What it takes of what the user may have.
    places: Vec<Place>,
}

/// The source of a view.
enum Source {
    // Fields drop in this order: the snapshot needs its tracer to the end.
    Taken(Box<Snapshot>, #[expect(dead_code, reason = "held for its Drop")] Lease),
    Stored(StoredImage),
}

impl Deref for SnapshotView {
    type Target = dyn Checkpoint;
    fn deref(&self) -> &(dyn Checkpoint + 'static) {
        match &self.source {
            Source::Taken(snapshot, _) => &**snapshot,
            Source::Stored(image) => image,
        }
    }
}

/// The files of one process that are computed from the checkpoint, and the process's owner.
struct ProcessFiles {
    owner: (u32, u32),
    info: MadeOnOpen<str>,
    maps: MadeOnOpen<[u8]>,
    /// Made once: making it reads files that may change, and its contents must not change.
    core: OnceLock<Result<Arc<Core>>>,
    vmas: OnceLock<Result<Arc<[VmaView]>>>,
}

/// A text that is made when it is opened and dropped with the last open. Each time the bytes are
/// the same, so its extent is kept.
struct MadeOnOpen<T: ?Sized> {
    /// Its length, and how many of its bytes are not in holes.
    extent: OnceLock<(u64, u64)>,
    /// The text while it is open. A leaf lock: the text is made outside of it.
    open: Mutex<Option<Weak<T>>>,
}

impl<T: ?Sized> MadeOnOpen<T> {
    fn new() -> MadeOnOpen<T> {
        MadeOnOpen { extent: OnceLock::new(), open: Mutex::new(None) }
    }

    fn get(&self, make: impl FnOnce() -> Result<Arc<T>>) -> Result<Arc<T>> {
        if let Some(open) = self.open.lock().as_ref().and_then(Weak::upgrade) {
            return Ok(open);
        }
        let made = make()?;
        *self.open.lock() = Some(Arc::downgrade(&made));
        Ok(made)
    }

    fn extent(
        &self,
        make: impl FnOnce() -> Result<Arc<T>>,
        measure: impl FnOnce(&T) -> Result<(u64, u64)>,
    ) -> Result<(u64, u64)> {
        match self.extent.get() {
            Some(extent) => Ok(*extent),
            None => {
                let extent = measure(&*self.get(make)?)?;
                Ok(*self.extent.get_or_init(|| extent))
            }
        }
    }
}

/// One open of a file of a pinned snapshot. Dropping the last one frees what only readers need.
pub struct PinReaders(Arc<SnapshotView>);

impl Deref for PinReaders {
    type Target = SnapshotView;
    fn deref(&self) -> &SnapshotView {
        &self.0
    }
}

impl Drop for PinReaders {
    fn drop(&mut self) {
        if let Source::Taken(snapshot, _) = &self.0.source {
            snapshot.rest();
        }
    }
}

impl SnapshotView {
    /// The view of `snapshot`. `tracer` took it after it was requested at `requested`.
    pub fn new(snapshot: Snapshot, tracer: Lease, requested: Instant) -> Result<SnapshotView> {
        // A copy-on-write child has the owner that its process had at the instant.
        let daemon = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let owner = |pid: Pid| owner(snapshot.memory_of(pid)).unwrap_or(daemon);
        let owners = snapshot.processes()?.into_iter().map(|pid| (pid, owner(pid))).collect();
        Ok(SnapshotView::of(owners, daemon, requested, Source::Taken(Box::new(snapshot), tracer)))
    }

    /// The view of the image in `file`. All of it belongs to the owner of the file. With a `key` it
    /// must be signed with it.
    pub fn stored(file: &Path, key: Option<&Key>) -> Result<SnapshotView> {
        let image = StoredImage::open(file, key)?;
        let metadata = std::fs::metadata(file).doing(|| file.display())?;
        let owner = (metadata.uid(), metadata.gid());
        let owners = image.processes()?.into_iter().map(|pid| (pid, owner)).collect();
        Ok(SnapshotView::of(owners, owner, Instant::now(), Source::Stored(image)))
    }

    fn of(
        owners: Vec<(Pid, (u32, u32))>,
        default_owner: (u32, u32),
        requested: Instant,
        source: Source,
    ) -> SnapshotView {
        let files = |owner| ProcessFiles {
            owner,
            info: MadeOnOpen::new(),
            maps: MadeOnOpen::new(),
            core: OnceLock::new(),
            vmas: OnceLock::new(),
        };
        let processes = owners.into_iter().map(|(pid, owner)| (pid, files(owner))).collect();
        let (readers, memory) = Default::default();
        let (opener, places) = Default::default();
        SnapshotView { processes, default_owner, requested, opener, readers, memory, source, places }
    }

    /// The same, opened or pinned by a user.
    pub fn opened_by(self, uid: u32) -> SnapshotView {
        SnapshotView { opener: Some(uid), ..self }
    }

    /// The same. It gives `places` back at its end.
    pub fn holding(mut self, places: impl IntoIterator<Item = Place>) -> SnapshotView {
        self.places.extend(places);
        self
    }

    /// The user that has opened or pinned it.
    pub fn opener(&self) -> Option<u32> {
        self.opener
    }

    /// One open of a file of a pinned snapshot.
    pub fn open_pinned(self: &Arc<Self>) -> Arc<PinReaders> {
        let mut readers = self.readers.lock();
        if let Some(open) = readers.upgrade() {
            return open;
        }
        let open = Arc::new(PinReaders(Arc::clone(self)));
        *readers = Arc::downgrade(&open);
        open
    }

    /// When the snapshot was requested. The tree was stopped later than that.
    pub fn requested(&self) -> Instant {
        self.requested
    }

    /// The process that is the root of all others, if there is one.
    pub fn root(&self) -> Result<Option<Pid>> {
        let roots = self.roots()?;
        Ok(if let [root] = roots[..] { Some(root) } else { None })
    }

    /// The processes in it, ascending.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.processes.keys().copied()
    }

    /// The owner of the files of a process: its user and group at the instant. Files of several
    /// processes belong to the daemon.
    pub fn owner(&self, pid: Pid) -> (u32, u32) {
        let own = self.processes.get(&pid).filter(|_| self.unreadable(Some(pid)).is_none());
        own.map_or(self.default_owner, |files| files.owner)
    }

    fn unreadable(&self, pid: Option<Pid>) -> Option<&str> {
        match &self.source {
            Source::Taken(snapshot, _) => snapshot.unreadable(pid),
            Source::Stored(_) => None,
        }
    }

    /// The owner of the image that begins with `pid`: the process's owner, if all processes in it
    /// belong to that user, otherwise the daemon.
    pub fn owner_of_all(&self, pid: Pid) -> (u32, u32) {
        let owner = self.owner(pid);
        let is_one_users = self.processes.values().all(|files| files.owner.0 == owner.0);
        if is_one_users && self.unreadable(None).is_none() { owner } else { self.default_owner }
    }

    /// Whether `viewer` has opened or pinned it, or has a process in it.
    pub fn is_in_part_of(&self, viewer: Viewer) -> bool {
        viewer.sees(self.opener) || self.processes.values().any(|files| viewer.sees(Some(files.owner.0)))
    }

    /// Whether `who` may read the process `pid` of this instant.
    ///
    /// # Errors
    /// EACCES: it may not.
    pub fn permits(&self, who: &Identity, pid: Pid) -> Result<()> {
        self.permits_each(who, &[pid], Some(pid))
    }

    /// Whether `who` may read all processes of this instant.
    ///
    /// # Errors
    /// EACCES: it may not.
    pub fn permits_all(&self, who: &Identity) -> Result<()> {
        self.permits_each(who, &self.pids().collect::<Vec<_>>(), None)
    }

    fn permits_each(&self, who: &Identity, pids: &[Pid], shown: Option<Pid>) -> Result<()> {
        if who.is_as_mighty() {
            return Ok(());
        }
        let is_owner = |pid: &Pid| self.owner(*pid).0 == who.uid || who.reads_any_file();
        let by_owner = |pids: &[Pid]| match pids.iter().find(|pid| !is_owner(pid)) {
            Some(pid) => Err(rights::refused(*pid, who, "it belongs to another user")),
            None => Ok(()),
        };
        let Source::Taken(snapshot, _) = &self.source else { return by_owner(pids) };
        if let Some(sentence) = self.unreadable(shown) {
            let sentence = format!("{sentence}; so user {} may not read this, but root", who.uid);
            return Err(Error::new(Kind::System(libc::EACCES), sentence));
        }
        // A copy-on-write child has the rights that its process had at the instant.
        let (ended, held): (Vec<Pid>, Vec<Pid>) = pids.iter().partition(|pid| has_ended(snapshot.memory_of(**pid)));
        by_owner(&ended)?;
        rights::may_read_copies(who, &held.iter().map(|&pid| (pid, snapshot.memory_of(pid))).collect::<Vec<_>>())
    }

    /// The text of `info.json`.
    pub fn info_text(&self, pid: Pid) -> Result<Arc<str>> {
        self.files(pid)?.info.get(|| self.info_json(pid).map(Arc::from))
    }

    /// The length of `info.json`.
    pub fn info_len(&self, pid: Pid) -> Result<u64> {
        let measure = |text: &str| Ok((text.len() as u64, text.len() as u64));
        Ok(self.files(pid)?.info.extent(|| self.info_text(pid), measure)?.0)
    }

    /// The text of `maps`.
    pub fn maps_text(&self, pid: Pid) -> Result<Arc<[u8]>> {
        self.files(pid)?.maps.get(|| self.maps(pid).map(Arc::from))
    }

    /// The length of `maps`.
    pub fn maps_len(&self, pid: Pid) -> Result<u64> {
        let measure = |text: &[u8]| Ok((text.len() as u64, text.len() as u64));
        Ok(self.files(pid)?.maps.extent(|| self.maps_text(pid), measure)?.0)
    }

    /// The process as a core file.
    pub fn core_file(&self, pid: Pid) -> Result<Arc<Core>> {
        self.files(pid)?.core.get_or_init(|| self.core(pid).map(Arc::new)).clone()
    }

    /// Whether [`SnapshotView::core_file`] would have to read the files that the process has
    /// mapped, which may take long (a network filesystem).
    pub fn core_is_to_be_made(&self, pid: Pid) -> bool {
        self.processes.get(&pid).is_some_and(|files| files.core.get().is_none())
    }

    /// The length of the core file, and how many of its bytes are not in holes.
    pub fn core_extent(&self, pid: Pid) -> Result<(u64, u64)> {
        let core = self.core_file(pid)?;
        Ok((core.len(), core.stored()?))
    }

    /// The mappings, ascending.
    pub fn mappings(&self, pid: Pid) -> Result<Arc<[VmaView]>> {
        self.files(pid)?.vmas.get_or_init(|| self.vmas(pid).map(Arc::from)).clone()
    }

    /// The mapping with exactly these addresses.
    pub fn mapping(&self, pid: Pid, range: Range) -> Result<Option<VmaView>> {
        let vmas = self.mappings(pid)?;
        let found = vmas.binary_search_by_key(&range.start, |vma| vma.start).ok().and_then(|at| vmas.get(at));
        Ok(found.filter(|vma| vma.end == range.end).cloned())
    }

    /// Why the processes stay stopped until this snapshot is closed, if they do.
    pub fn read_while_stopped(&self) -> Option<&str> {
        match &self.source {
            Source::Taken(snapshot, _) => snapshot.read_while_stopped(),
            Source::Stored(_) => None,
        }
    }

    /// How many bytes of memory would be free without this snapshot.
    pub fn memory(&self) -> u64 {
        let bytes = match &self.source {
            Source::Taken(snapshot, _) => snapshot.memory(),
            Source::Stored(_) => 0,
        };
        *self.memory.lock() = Some((Instant::now(), bytes));
        bytes
    }

    /// Like [`SnapshotView::memory`], or its result of a moment ago.
    pub fn memory_lately(&self) -> u64 {
        let known = *self.memory.lock();
        match known {
            Some((at, bytes)) if at.elapsed() < MEMORY_AGE => bytes,
            _ => self.memory(),
        }
    }

    fn files(&self, pid: Pid) -> Result<&ProcessFiles> {
        let gone = || Error::new(Kind::NoProcess, format!("pid {pid} is not in the snapshot"));
        self.processes.get(&pid).ok_or_else(gone)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_is_made_when_it_is_opened_and_its_length_remembered() {
        let made = std::cell::Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Ok(Arc::from("text"))
        };
        let text: MadeOnOpen<str> = MadeOnOpen::new();
        let len = || text.extent(make, |text| Ok((text.len() as u64, 0))).unwrap();
        assert_eq!((len(), len(), made.get()), ((4, 0), (4, 0), 1));
        let (one, two) = (text.get(make).unwrap(), text.get(make).unwrap());
        assert_eq!((&*one, &*two, made.get()), ("text", "text", 2));
        drop((one, two));
        assert_eq!((&*text.get(make).unwrap(), made.get()), ("text", 3));
        assert!(MadeOnOpen::<str>::new().get(|| Err(Error::unsupported("no"))).is_err());
    }
}

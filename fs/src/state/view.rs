//! One instant as the files of the mount show it: the only way in which they ask for it, be it live or pinned.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use ckptfs_dumper::{
    Checkpoint, Core, Doing, Error, Kind, Pid, Piece, ReadAhead, Result, Snapshot, StoredImage, VmaView,
};
use parking_lot::Mutex;

use crate::process::{Range, owner};
use crate::state::tracers::Lease;

/// How long the memory that a snapshot costs is taken for what it was: to ask costs a walk over page tables.
const MEMORY_AGE: Duration = Duration::from_secs(1);

/// A snapshot, its processes and their texts.
pub struct SnapshotView {
    processes: BTreeMap<Pid, Told>,
    /// The daemon's user and group.
    own: (u32, u32),
    /// When it was asked for.
    begun: std::time::Instant,
    /// How many have a file of it open.
    handles: AtomicUsize,
    /// A leaf lock.
    memory: Mutex<Option<(std::time::Instant, u64)>>,
    source: Source,
}

/// Where it is read from.
enum Source {
    // Fields drop in this order: the snapshot needs its tracer to the end.
    Taken(Snapshot, #[expect(dead_code, reason = "held for its Drop")] Lease),
    Stored(StoredImage),
}

impl Source {
    fn instant(&self) -> &dyn Checkpoint {
        match self {
            Source::Taken(snapshot, _) => snapshot,
            Source::Stored(image) => image,
        }
    }
}

/// What was told of one process.
struct Told {
    owner: (u32, u32),
    info: Made<str>,
    maps: Made<[u8]>,
    /// Made once: it looks at files that may change, and what it shows must not.
    core: OnceLock<Result<Arc<Core>>>,
    vmas: OnceLock<Result<Arc<[VmaView]>>>,
}

/// What is made when it is opened, the same every time; its extent is remembered.
struct Made<T: ?Sized> {
    /// Length, and bytes of it that are no hole.
    extent: OnceLock<(u64, u64)>,
    /// While somebody has it open. A leaf lock: it is made outside of it.
    open: Mutex<Option<Weak<T>>>,
}

impl<T: ?Sized> Made<T> {
    fn new() -> Made<T> {
        Made { extent: OnceLock::new(), open: Mutex::new(None) }
    }

    fn get(&self, make: impl FnOnce() -> Result<Arc<T>>) -> Result<Arc<T>> {
        if let Some(made) = self.open.lock().as_ref().and_then(Weak::upgrade) {
            return Ok(made);
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

impl SnapshotView {
    /// What `snapshot` tells; `tracer` took it when it was asked to at `begun`.
    pub fn new(snapshot: Snapshot, tracer: Lease, begun: std::time::Instant) -> Result<SnapshotView> {
        // A copy-on-write child belongs to whom its process belonged to at the instant.
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let owner = |snapshot: &Snapshot, pid: Pid| owner(snapshot.memory_of(pid)).unwrap_or(own);
        let owners = snapshot.processes()?.into_iter().map(|pid| (pid, owner(&snapshot, pid))).collect();
        Ok(SnapshotView::of(owners, own, begun, Source::Taken(snapshot, tracer)))
    }

    /// What the image in `file` tells; all of it belongs to whom the file belongs to.
    pub fn stored(file: &Path) -> Result<SnapshotView> {
        let image = StoredImage::open(file)?;
        let facts = std::fs::metadata(file).doing(|| file.display())?;
        let own = (facts.uid(), facts.gid());
        let owners = image.processes()?.into_iter().map(|pid| (pid, own)).collect();
        Ok(SnapshotView::of(owners, own, std::time::Instant::now(), Source::Stored(image)))
    }

    fn of(owners: Vec<(Pid, (u32, u32))>, own: (u32, u32), begun: std::time::Instant, source: Source) -> SnapshotView {
        let told = |(pid, owner)| {
            (pid, Told { owner, info: Made::new(), maps: Made::new(), core: OnceLock::new(), vmas: OnceLock::new() })
        };
        let processes = owners.into_iter().map(told).collect();
        SnapshotView { processes, own, begun, handles: AtomicUsize::new(0), memory: Mutex::default(), source }
    }

    /// One more has a file of it open.
    pub fn open(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    /// One of them has closed it. After the last one nothing is held that only readers need.
    pub fn close(&self) {
        if let (1, Source::Taken(snapshot, _)) = (self.handles.fetch_sub(1, Ordering::SeqCst), &self.source) {
            snapshot.rest();
        }
    }

    /// When it was asked for: the tree stood still later than that.
    pub fn begun(&self) -> std::time::Instant {
        self.begun
    }

    /// The instant.
    pub fn taken(&self) -> SystemTime {
        self.source.instant().taken()
    }

    /// How long the tree was stopped.
    pub fn stopped(&self) -> Duration {
        self.source.instant().stopped().unwrap_or_default()
    }

    /// The process that is the root of all others, if there is one.
    pub fn root(&self) -> Result<Option<Pid>> {
        let roots = self.source.instant().roots()?;
        Ok(if let [root] = roots[..] { Some(root) } else { None })
    }

    /// The processes that it tells of, ascending.
    pub fn processes(&self) -> impl Iterator<Item = Pid> {
        self.processes.keys().copied()
    }

    /// Whose files these are: the process's user and group at the instant; the daemon's for what is of several.
    pub fn owner(&self, pid: Pid) -> (u32, u32) {
        self.processes.get(&pid).map_or(self.own, |told| told.owner)
    }

    /// Whose the image is that begins with the process: the process's owner's, if all that is in it is his; else the daemon's.
    pub fn owner_of_all(&self, pid: Pid) -> (u32, u32) {
        let mine = self.owner(pid);
        let is_his = self.processes.values().all(|told| told.owner.0 == mine.0);
        if is_his { mine } else { self.own }
    }

    /// The length of `image`.
    pub fn image_len(&self) -> u64 {
        self.source.instant().image_len()
    }

    /// Bytes of `image`.
    pub fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece> {
        self.source.instant().read_image(offset, len, ahead)
    }

    /// The text of `info.json`.
    pub fn info(&self, pid: Pid) -> Result<Arc<str>> {
        self.told(pid)?.info.get(|| self.source.instant().info_json(pid).map(Arc::from))
    }

    /// Its length.
    pub fn info_len(&self, pid: Pid) -> Result<u64> {
        let extent = self.told(pid)?.info.extent(|| self.info(pid), |text| Ok((text.len() as u64, text.len() as u64)));
        Ok(extent?.0)
    }

    /// The text of `maps`.
    pub fn maps(&self, pid: Pid) -> Result<Arc<[u8]>> {
        self.told(pid)?.maps.get(|| self.source.instant().maps(pid).map(Arc::from))
    }

    /// Its length.
    pub fn maps_len(&self, pid: Pid) -> Result<u64> {
        let extent = self.told(pid)?.maps.extent(|| self.maps(pid), |text| Ok((text.len() as u64, text.len() as u64)));
        Ok(extent?.0)
    }

    /// The process as a core file.
    pub fn core(&self, pid: Pid) -> Result<Arc<Core>> {
        self.told(pid)?.core.get_or_init(|| self.source.instant().core(pid).map(Arc::new)).clone()
    }

    /// Whether [`SnapshotView::core`] would have to look at the files that the process has mapped, which may take its time (a network filesystem).
    pub fn core_is_to_be_made(&self, pid: Pid) -> bool {
        self.processes.get(&pid).is_some_and(|told| told.core.get().is_none())
    }

    /// Its length, and the bytes of it that are no hole.
    pub fn core_extent(&self, pid: Pid) -> Result<(u64, u64)> {
        let core = self.core(pid)?;
        Ok((core.len(), core.stored()?))
    }

    /// The mappings, ascending.
    pub fn vmas(&self, pid: Pid) -> Result<Arc<[VmaView]>> {
        self.told(pid)?.vmas.get_or_init(|| self.source.instant().vmas(pid).map(Arc::from)).clone()
    }

    /// The mapping with exactly these addresses.
    pub fn vma(&self, pid: Pid, range: Range) -> Result<Option<VmaView>> {
        let vmas = self.vmas(pid)?;
        let found = vmas.binary_search_by_key(&range.start, |vma| vma.start).ok().and_then(|at| vmas.get(at));
        Ok(found.filter(|vma| vma.end == range.end).cloned())
    }

    /// Bytes of a mapping.
    pub fn read_vma(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.source.instant().read_vma(pid, start, offset, buf)
    }

    /// SEEK_DATA or SEEK_HOLE within a mapping.
    pub fn seek_vma(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        self.source.instant().seek_vma(pid, start, offset, data)
    }

    /// Bytes of memory that would be free without it.
    pub fn memory(&self) -> u64 {
        let bytes = match &self.source {
            Source::Taken(snapshot, _) => snapshot.memory(),
            Source::Stored(_) => 0,
        };
        *self.memory.lock() = Some((std::time::Instant::now(), bytes));
        bytes
    }

    /// As [`SnapshotView::memory`], or what that was a moment ago.
    pub fn memory_lately(&self) -> u64 {
        let known = *self.memory.lock();
        match known {
            Some((at, bytes)) if at.elapsed() < MEMORY_AGE => bytes,
            _ => self.memory(),
        }
    }

    fn told(&self, pid: Pid) -> Result<&Told> {
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
        let text: Made<str> = Made::new();
        let len = || text.extent(make, |text| Ok((text.len() as u64, 0))).unwrap();
        assert_eq!((len(), len(), made.get()), ((4, 0), (4, 0), 1));
        let (one, two) = (text.get(make).unwrap(), text.get(make).unwrap());
        assert_eq!((&*one, &*two, made.get()), ("text", "text", 2));
        drop((one, two));
        assert_eq!((&*text.get(make).unwrap(), made.get()), ("text", 3));
        assert!(Made::<str>::new().get(|| Err(Error::unsupported("no"))).is_err());
    }
}

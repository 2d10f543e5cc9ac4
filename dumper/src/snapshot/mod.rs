//! A snapshot of a tree, in four steps: `Frozen` (the tree is stopped), [`collect::Collected`] (its
//! records), [`source::Forked`] (the processes that memory is read from), [`SnapshotData`] (an
//! image with every offset known). Each step consumes the result of the step before.

pub mod collect;
pub mod fork;
pub mod held;
pub mod job;
pub mod layout;
pub mod lease;
mod line;
pub mod session;
pub mod source;
pub mod take;
pub mod tracer;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::view::View;
use crate::dump::unreadable::Unreadable;
use crate::error::Result;
use crate::memory::source::MemorySources;
use crate::read_ahead::{ImageReader, Piece, ReadAhead};
use crate::snapshot::lease::Lease;
use crate::sys::pid::Pid;
use crate::sys::proc::maps;

/// A snapshot of a tree. Dropping it ends its copy-on-write children, and their parents reap them.
pub struct Snapshot {
    data: SnapshotData,
    /// Held for its Drop, which makes the session release the source of this snapshot.
    _lease: Lease,
}

/// What a snapshot consists of.
pub struct SnapshotData {
    image: ImageReader,
    view: Arc<View>,
    sources: Arc<MemorySources>,
    /// The process that memory is read from, by process. A process that is missing here is read
    /// itself.
    memory_of: BTreeMap<Pid, Pid>,
    /// The copy-on-write children that were made for it.
    children: Vec<Pid>,
    /// Why it is for root only.
    unreadable: Vec<Unreadable>,
    /// Why its tree stays stopped until the snapshot is dropped, if it does.
    read_while_stopped: Option<String>,
}

impl SnapshotData {
    /// Whether so much memory is used for its records that it is worth some milliseconds to give it
    /// back at once.
    fn has_large_records(&self) -> bool {
        const LARGE: usize = 1 << 20;
        self.view.records().records().map(|record| record.json.len() + record.blob.len()).sum::<usize>() > LARGE
    }
}

impl Snapshot {
    /// Makes a snapshot. The end of the `lease` releases its source.
    pub(crate) fn new(data: SnapshotData, lease: Lease) -> Self {
        Self { data, _lease: lease }
    }

    /// Frees what only readers need. Call it when no reads are expected for a while.
    pub fn rest(&self) {
        self.data.image.rest();
    }

    /// The process that shows the memory of `pid` in /proc as long as the snapshot lives: its
    /// copy-on-write child, or itself if it is stopped.
    pub fn memory_of(&self, pid: Pid) -> Pid {
        self.data.memory_of.get(&pid).copied().unwrap_or(pid)
    }

    /// What it has that the user of the tree could not read itself: of process `pid`, or of the
    /// whole tree.
    pub fn unreadable(&self, pid: Option<Pid>) -> Option<&str> {
        let is_about = |it: &&Unreadable| pid.is_none() || it.pid == pid;
        self.data.unreadable.iter().find(is_about).map(|it| it.sentence.as_str())
    }

    /// Why the tree stays stopped for as long as this snapshot lives. `None` if it runs on, and for
    /// a tree that `freeze` holds.
    pub fn read_while_stopped(&self) -> Option<&str> {
        self.data.read_while_stopped.as_deref()
    }

    /// Bytes of memory that would be free without this snapshot: pages that only its children still
    /// have (/proc/PID/smaps_rollup), and copies. Pages that two snapshots share are counted for
    /// neither.
    pub fn memory(&self) -> u64 {
        // A killed child has none.
        let private = self.data.children.iter().filter_map(|child| maps::private_bytes(*child).ok());
        private.sum::<u64>() + self.data.sources.memory()
    }
}

impl Checkpoint for Snapshot {
    fn view(&self) -> &Arc<View> {
        &self.data.view
    }

    fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece> {
        self.data.image.read(offset, len, ahead)
    }
}

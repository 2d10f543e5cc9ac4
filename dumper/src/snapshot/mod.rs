//! A snapshot of a tree, in four steps: `Frozen` (the tree is stopped), [`collect::Collected`] (its
//! records), [`source::Forked`] (whose memory is read), [`SnapshotData`] (an image whose every offset
//! is known). Each step consumes what the one before it gave.

pub mod collect;
pub mod fork;
pub mod held;
pub mod job;
pub mod layout;
pub mod lease;
pub mod session;
pub mod source;
pub mod take;
pub mod tracer;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::view::View;
use crate::error::Result;
use crate::memory::source::MemorySources;
use crate::read_ahead::{ImageReader, Piece, ReadAhead};
use crate::snapshot::lease::Lease;
use crate::sys::pid::Pid;
use crate::sys::proc::maps;

/// A snapshot of a tree. Dropping it ends its copy-on-write children, which their parents then reap.
pub struct Snapshot {
    data: SnapshotData,
    /// Held for its Drop: the session then lets go of what this snapshot is read from.
    _lease: Lease,
}

/// What a snapshot consists of.
pub struct SnapshotData {
    image: ImageReader,
    view: Arc<View>,
    sources: Arc<MemorySources>,
    /// Whose memory is read, by process; a process that is missing here is read itself.
    memory_of: BTreeMap<Pid, Pid>,
    /// The copy-on-write children that were made for it.
    children: Vec<Pid>,
}

impl Snapshot {
    /// A snapshot, and the lease whose end lets go of what it is read from.
    pub(crate) fn new(data: SnapshotData, lease: Lease) -> Self {
        Self { data, _lease: lease }
    }

    /// To be called when no one reads for a while: frees what only readers need.
    pub fn rest(&self) {
        self.data.image.rest();
    }

    /// The process that shows the memory of `pid` in /proc as long as the snapshot lives: its
    /// copy-on-write child, or itself where it is stopped.
    pub fn memory_of(&self, pid: Pid) -> Pid {
        self.data.memory_of.get(&pid).copied().unwrap_or(pid)
    }

    /// Bytes of memory that would be free without this snapshot: pages that only its children still
    /// have (/proc/PID/smaps_rollup), and copies. Pages that two snapshots have in common are counted
    /// for neither.
    pub fn memory(&self) -> u64 {
        // A child that was killed has none.
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

//! The instant: a copy-on-write child and its page set, told as an image whose every offset is known.

pub mod collect;
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

/// One instant of a tree. Dropping it ends the copy-on-write child and reaps it.
pub struct Snapshot {
    taken: SnapshotData,
    /// Held for its Drop: the session then lets go of what this snapshot is read from.
    _lease: Lease,
}

/// What a snapshot tells.
pub struct SnapshotData {
    stream: ImageReader,
    view: Arc<View>,
    sources: Arc<MemorySources>,
    /// Whose memory is read, by process.
    copies: BTreeMap<Pid, Pid>,
    /// Those of them that were made for it.
    children: Vec<Pid>,
}

impl Snapshot {
    /// An instant, and the lease whose end lets go of what it is read from.
    pub(crate) fn new(taken: SnapshotData, lease: Lease) -> Self {
        Self { taken, _lease: lease }
    }

    /// Nobody reads for a while: gives back what only readers need.
    pub fn rest(&self) {
        self.taken.stream.rest();
    }

    /// Who is for `pid` in /proc as long as the snapshot lives: its copy-on-write child, or itself where it is stopped.
    pub fn memory_of(&self, pid: Pid) -> Pid {
        self.taken.copies.get(&pid).copied().unwrap_or(pid)
    }

    /// Bytes of memory that would be free without this snapshot: pages of its children that nobody has any more but they
    /// (/proc/PID/smaps_rollup), and what was copied. Pages that two snapshots have in common are told of neither.
    pub fn memory(&self) -> u64 {
        // One that was killed has none.
        let private = self.taken.children.iter().filter_map(|child| maps::private_bytes(*child).ok());
        private.sum::<u64>() + self.taken.sources.memory()
    }
}

impl Checkpoint for Snapshot {
    fn view(&self) -> &Arc<View> {
        &self.taken.view
    }

    fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece> {
        self.taken.stream.read(offset, len, ahead)
    }
}

//! An instant of some processes, to be read: taken of live ones ([`crate::snapshot::Snapshot`]), or
//! stored in a file ([`crate::checkpoint::stored::StoredImage`]).

pub mod address_space;
pub mod elf_core;
#[cfg(test)]
pub mod fake;
pub mod info;
pub mod stored;
pub mod view;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::checkpoint::elf_core::Core;
use crate::checkpoint::view::{View, VmaView};
use crate::error::Result;
use crate::read_ahead::{Piece, ReadAhead};
use crate::sys::pid::Pid;

/// An image and what it tells by process. A source has its own way to the bytes; what they say is
/// told by the [`View`] alone.
pub trait Checkpoint: Send + Sync {
    /// What is in it.
    fn view(&self) -> &Arc<View>;

    /// `len` bytes of the image at `offset`; fewer only at its end.
    ///
    /// # Errors
    /// [`crate::error::Kind::SnapshotLost`] if the memory is gone: never zeros in its place.
    fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece>;

    /// The exact length of the image, bytes.
    fn image_len(&self) -> u64 {
        self.view().header().total
    }

    /// The instant.
    fn taken(&self) -> SystemTime {
        self.view().taken()
    }

    /// How long the tree was stopped (until the snapshot was taken, for one that is held by
    /// `freeze`), if that is told.
    fn stopped(&self) -> Option<Duration> {
        self.view().stopped()
    }

    /// The processes that have not ended. The first is the root, or the first root; makers come
    /// before those that they made.
    fn processes(&self) -> Result<Vec<Pid>> {
        self.view().processes()
    }

    /// Those of them whose parent is none of them.
    fn roots(&self) -> Result<Vec<Pid>> {
        self.view().roots()
    }

    /// The text of `info.json`: the image's records, without bulk.
    fn info_json(&self, pid: Pid) -> Result<String> {
        self.view().info_json(pid)
    }

    /// The text of `maps`: as in /proc, with the bytes that the image holds of each mapping before
    /// the name, which need not be UTF-8.
    fn maps(&self, pid: Pid) -> Result<Vec<u8>> {
        self.view().maps(pid)
    }

    /// The mappings, ascending: what `vmas/` lists.
    fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        self.view().vmas(pid)
    }

    /// Raw memory of one mapping from `offset` (relative to its start); what the image does not
    /// hold reads as zeros. Fewer bytes only at the mapping's end.
    fn read_vma(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.view().read(pid, start, offset, buf)
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE within one mapping, relative to its start; `None` is ENXIO.
    fn seek_vma(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        self.view().seek(pid, start, offset, data)
    }

    /// One process as an ELF core file.
    fn core(&self, pid: Pid) -> Result<Core> {
        Core::new(self.view(), pid)
    }
}

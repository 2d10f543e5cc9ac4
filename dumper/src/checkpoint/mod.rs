//! A checkpoint to be read: taken of live processes ([`crate::snapshot::Snapshot`]), or stored in a
//! file ([`crate::checkpoint::stored::StoredImage`]).

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

/// An image and its contents by process. Each implementation has its own way to the bytes. The
/// [`View`] alone interprets them.
pub trait Checkpoint: Send + Sync {
    /// The contents of the image.
    fn view(&self) -> &Arc<View>;

    /// Reads `len` bytes of the image at `offset`. Returns fewer only at its end.
    ///
    /// # Errors
    /// [`crate::error::Kind::SnapshotLost`] if the memory is gone. It never returns zeros instead.
    fn read_image(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece>;

    /// The exact length of the image in bytes.
    fn image_len(&self) -> u64 {
        self.view().header().total
    }

    /// When the checkpoint was taken.
    fn taken(&self) -> SystemTime {
        self.view().taken()
    }

    /// How long the tree was stopped, if that is recorded. For a tree held by `freeze`: until the
    /// snapshot was taken.
    fn stopped(&self) -> Option<Duration> {
        self.view().stopped()
    }

    /// The processes that have not ended. The first is the root, or the first root. A maker comes
    /// before the processes that it made.
    fn processes(&self) -> Result<Vec<Pid>> {
        self.view().processes()
    }

    /// Those of [`Checkpoint::processes`] that have no parent among them.
    fn roots(&self) -> Result<Vec<Pid>> {
        self.view().roots()
    }

    /// The text of `info.json`: the image's records, without page contents and other bulk.
    fn info_json(&self, pid: Pid) -> Result<String> {
        self.view().info_json(pid)
    }

    /// The text of `maps`: as in /proc, and before each name the number of bytes that the image
    /// holds of the mapping. A name need not be UTF-8.
    fn maps(&self, pid: Pid) -> Result<Vec<u8>> {
        self.view().maps(pid)
    }

    /// The mappings, ascending: the list of `vmas/`.
    fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        self.view().vmas(pid)
    }

    /// Reads raw memory of one mapping from `offset` (relative to its start). What the image does
    /// not hold reads as zeros. Returns fewer bytes only at the mapping's end.
    fn read_vma(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.view().read(pid, start, offset, buf)
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE within one mapping, relative to its start. `None` means
    /// ENXIO.
    fn seek_vma(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        self.view().seek(pid, start, offset, data)
    }

    /// One process as an ELF core file.
    fn core(&self, pid: Pid) -> Result<Core> {
        Core::new(self.view(), pid)
    }
}

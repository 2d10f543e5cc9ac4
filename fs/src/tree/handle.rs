//! An open file: a file of one snapshot, read at any offset; a text; an open restore; an open
//! directory.

use std::collections::HashMap;
use std::ops::{Deref, Range as Span};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ckptfs_dumper::{Core, Error, Identity, Kind, Pid, Piece, ReadAhead, Result, VmaView};
use parking_lot::Mutex;

use crate::node::{File, Of};
use crate::process::ProcId;
use crate::state::lines::Text;
use crate::state::quota::Place;
use crate::state::restores::Session;
use crate::state::snapshots::{OpenedRefusal, OpenedSnapshot};
use crate::state::view::SnapshotView;
use crate::tree::open_nodes::OpenedNode;
use crate::tree::walk::Directory;

/// What a program has open.
pub enum Handle {
    /// A file of a snapshot.
    Snapshot(SnapshotFile),
    /// Why there is no snapshot, in place of `info.json`.
    Refusal(OpenedRefusal),
    /// `check`: the text at the moment of the open.
    Text(Arc<str>),
    /// `restore`, open for reading: the lines at the moment of the open.
    Journal(Text),
    /// `status`: the text at the moment of the open, and the length that stat(2) shows while any
    /// handle is open.
    Status(Arc<str>, #[expect(dead_code, reason = "held for its reference count")] Arc<AtomicU64>),
    /// `restore`, open for writing (and perhaps reading).
    Restore {
        /// The session that is fed. The lock is held while bytes are restored. The locks of the
        /// journal and the container are taken inside it.
        session: Mutex<Session>,
        /// What reads return, if it is open for reading.
        journal: Option<Text>,
    },
    /// `freeze` or `kill`, and the user that opened it.
    Control(ProcId, File, Identity),
    /// A directory.
    Directory(Directory),
}

/// An open file of a snapshot.
pub struct SnapshotFile {
    /// The instant that it shows.
    pub of: Of,
    // Fields drop in this order: `part` may share what the snapshot is read from, and the last open
    // is to end it.
    /// The file.
    pub part: Part,
    /// The instant.
    pub snapshot: OpenedSnapshot,
}

/// A file of a snapshot.
pub enum Part {
    /// `image`
    Image,
    /// `info.json` or `maps`
    Text(Arc<[u8]>),
    /// `core`
    Core(Arc<Core>),
    /// `vmas/START-END` of a process
    Vma(Pid, VmaView),
}

impl Handle {
    /// How many bytes of memory it has for itself.
    pub fn memory(&self) -> usize {
        match self {
            Handle::Text(text) | Handle::Status(text, _) => text.len(),
            _ => 0,
        }
    }
}

/// Bytes of a reply.
pub enum Bytes {
    /// Of an image.
    Piece(Piece),
    /// Of a mapping.
    Copy(Vec<u8>),
    /// Of a text.
    Text(Arc<[u8]>, Span<usize>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Piece(piece) => piece,
            Bytes::Copy(bytes) => bytes,
            Bytes::Text(text, span) => text.get(span.clone()).unwrap_or_default(),
        }
    }
}

/// `len` bytes of `text` at `offset`, fewer at its end.
pub fn part_of(text: Arc<[u8]>, offset: u64, len: usize) -> Bytes {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let end = start.saturating_add(len).min(text.len());
    Bytes::Text(text, start..end)
}

/// `len` bytes, or as many of them as `fill` can fill.
fn filled(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Bytes> {
    let mut bytes = vec![0; len];
    let read = fill(&mut bytes)?;
    bytes.truncate(read);
    Ok(Bytes::Copy(bytes))
}

impl Part {
    /// The exact length of the file.
    pub fn len(&self, view: &SnapshotView) -> u64 {
        match self {
            Part::Image => view.image_len(),
            Part::Text(text) => text.len() as u64,
            Part::Core(core) => core.len(),
            Part::Vma(_, vma) => vma.end.saturating_sub(vma.start),
        }
    }

    /// `len` bytes at `offset`, fewer only at the end.
    pub fn read(&self, view: &SnapshotView, offset: u64, len: usize, ahead: ReadAhead) -> Result<Bytes> {
        let left = usize::try_from(self.len(view).saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if len == 0 {
            return Ok(Bytes::Copy(Vec::new()));
        }
        let bytes = match self {
            Part::Image => Bytes::Piece(view.read_image(offset, len, ahead)?),
            Part::Text(text) => part_of(Arc::clone(text), offset, len),
            Part::Core(core) => filled(len, |bytes| core.read_at(offset, bytes))?,
            Part::Vma(pid, vma) => filled(len, |bytes| view.read_vma(*pid, vma.start, offset, bytes))?,
        };
        // An archiver fills a short read with zeros. An error is better than wrong bytes.
        if bytes.len() == len {
            Ok(bytes)
        } else {
            let sentence = format!("only {} of {len} bytes at offset {offset} could be read", bytes.len());
            Err(Error::new(Kind::SnapshotLost, sentence))
        }
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE from `offset` (lseek(2)). `None` means ENXIO.
    pub fn seek(&self, view: &SnapshotView, offset: u64, data: bool) -> Result<Option<u64>> {
        let len = self.len(view);
        if offset >= len {
            return Ok(None);
        }
        match self {
            Part::Core(core) => core.seek(offset, data),
            Part::Vma(pid, vma) => view.seek_vma(*pid, vma.start, offset, data),
            // All is data, and a hole begins at the end.
            Part::Image | Part::Text(_) => Ok(Some(if data { offset } else { len })),
        }
    }
}

/// All that is open, by the numbers that the kernel holds.
#[derive(Default)]
pub struct HandleTable {
    last: u64,
    open: HashMap<u64, HandleEntry>,
}

/// A handle, and its node if that is steady while it is open.
pub struct HandleEntry {
    /// The handle. Requests in progress share it.
    pub handle: Arc<Handle>,
    /// Closed when the kernel releases the handle.
    pub node: Option<OpenedNode>,
    /// What it takes of what its user may have.
    pub places: Vec<Place>,
}

impl HandleTable {
    /// Adds a handle. Returns its number, which is given only once.
    pub fn insert(&mut self, entry: HandleEntry) -> u64 {
        self.last += 1;
        self.open.insert(self.last, entry);
        self.last
    }

    /// The handle with this number.
    pub fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.get(&number).map(|entry| Arc::clone(&entry.handle))
    }

    /// All handles, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Handle> {
        self.open.values().map(|entry| &*entry.handle)
    }

    /// Takes the handle with this number out of the table.
    pub fn remove(&mut self, number: u64) -> Option<HandleEntry> {
        self.open.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_end_and_nowhere_else() {
        let text: Arc<[u8]> = Arc::from(*b"0123456789");
        let cut = |offset, len| String::from_utf8_lossy(&part_of(Arc::clone(&text), offset, len)).into_owned();
        assert_eq!(cut(0, 4), "0123");
        assert_eq!(cut(8, 4), "89");
        assert_eq!(cut(10, 1), "");
        assert_eq!(cut(u64::MAX, usize::MAX), "");
        assert_eq!(cut(3, usize::MAX), "3456789");
    }
}

//! An open file: one snapshot, read at any offset; a text; an open restore.

use std::collections::HashMap;
use std::ops::{Deref, Range as Span};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ckptfs_dumper::{Core, Error, Kind, Pid, Piece, ReadAhead, Result, VmaView};
use parking_lot::Mutex;

use crate::node::{File, Node, Of};
use crate::process::ProcId;
use crate::process::caller::Caller;
use crate::state::restores::Session;
use crate::state::view::SnapshotView;
use crate::tree::entry::Entry;

/// What a program has open.
pub enum Handle {
    /// A file of a snapshot.
    Snapshot {
        /// What was opened.
        node: Node,
        /// Whose instant it is.
        of: Of,
        /// The instant.
        view: Arc<SnapshotView>,
        /// The file.
        part: Part,
        /// Whether it was flushed and not read since.
        flushed: Flushed,
    },
    /// Why there is no snapshot, in place of `info.json`.
    Refusal {
        /// Whose.
        id: ProcId,
        /// The reason.
        text: Arc<String>,
        /// Whether it was flushed and not read since.
        flushed: Flushed,
    },
    /// `restore`, open for reading: text of the moment of the open.
    Text(Arc<str>),
    /// `status`: text of the moment of the open.
    Status(Arc<str>),
    /// `restore`, open for writing (and perhaps reading).
    Restore {
        /// What is fed. Held while bytes are restored; the journal's and the container's locks are taken inside it.
        session: Mutex<Session>,
        /// What reads give.
        journal: Arc<str>,
    },
    /// `freeze` or `kill`, and who opened it.
    Control(ProcId, File, Caller),
    /// A directory.
    Directory(Directory),
}

/// An open directory.
pub struct Directory {
    /// They stand still from one rewind to the next. A leaf lock.
    pub entries: Mutex<Vec<Entry>>,
    /// Where this is the folder of a live process, or the root of a mount of one tree. An archiver opens what it finds there one behind
    /// the other: it is to find one instant.
    pub walk: Option<Walk>,
}

/// Somebody goes through the files of a live process.
pub struct Walk {
    /// Whose files.
    pub of: ProcId,
    /// Who goes through it.
    pub reader: Pid,
    /// The instant of the first file that he opened, until the directory is closed. A leaf lock.
    pub kept: Mutex<KeptHandle>,
}

/// What an open directory keeps.
#[derive(Default)]
pub enum KeptHandle {
    /// No file was opened yet.
    #[default]
    Nothing,
    /// An open of its own.
    View(Arc<SnapshotView>),
    /// Why there is none.
    Refusal(Error),
    /// The directory is closed: whoever comes late keeps nothing.
    Closed,
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

/// Whether a handle was flushed and not read since.
#[derive(Default)]
pub struct Flushed(AtomicBool);

impl Flushed {
    /// Sets it and tells whether that was a change.
    pub fn set(&self, flushed: bool) -> bool {
        self.0.swap(flushed, Ordering::Relaxed) != flushed
    }

    /// Tells it.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes to reply with, wherever they lie.
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

/// `len` bytes, as many of them as `fill` can fill.
fn filled(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Bytes> {
    let mut bytes = vec![0; len];
    let read = fill(&mut bytes)?;
    bytes.truncate(read);
    Ok(Bytes::Copy(bytes))
}

impl Part {
    /// Its exact length.
    pub fn len(&self, view: &SnapshotView) -> u64 {
        match self {
            Part::Image => view.image_len(),
            Part::Text(text) => text.len() as u64,
            Part::Core(core) => core.len(),
            Part::Vma(_, vma) => vma.end.saturating_sub(vma.start),
        }
    }

    /// `len` bytes at `offset`, fewer at the end only.
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
        // An archiver fills a short read with zeros: better no bytes than wrong ones.
        if bytes.len() == len {
            Ok(bytes)
        } else {
            let sentence = format!("only {} of {len} bytes at offset {offset} could be had", bytes.len());
            Err(Error::new(Kind::SnapshotLost, sentence))
        }
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE from `offset` (lseek(2)); `None` is ENXIO.
    pub fn seek(&self, view: &SnapshotView, offset: u64, data: bool) -> Result<Option<u64>> {
        let len = self.len(view);
        if offset >= len {
            return Ok(None);
        }
        match self {
            Part::Core(core) => core.seek(offset, data),
            Part::Vma(pid, vma) => view.seek_vma(*pid, vma.start, offset, data),
            // All is data, and a hole stands behind the end.
            Part::Image | Part::Text(_) => Ok(Some(if data { offset } else { len })),
        }
    }
}

#[derive(Default)]
pub struct Handles {
    pub next: u64,
    pub open: HashMap<u64, Arc<Handle>>,
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

    #[test]
    fn flushed_tells_changes_once() {
        let flushed = Flushed::default();
        assert!(!flushed.set(false) && flushed.set(true) && !flushed.set(true) && flushed.get());
        assert!(flushed.set(false));
    }
}

//! An open directory, and what it keeps for a process that walks through it.
//!
//! An archiver reads the folder of a process and opens the files in it one after the other. Such a
//! walk should find one instant in all of them, so the open directory keeps the instant of the
//! first file until it is closed or rewound.

use std::sync::Arc;

use ckptfs_dumper::{Error, Pid};
use parking_lot::Mutex;

use crate::node::Of;
use crate::process::ProcId;
use crate::state::quota::Place;
use crate::state::snapshots::OpenedLive;
use crate::tree::entry::Entry;

/// An open directory.
pub struct Directory {
    /// The entries do not change from one rewind to the next. A leaf lock.
    pub entries: Mutex<Listing>,
    /// Present for the folder of a live process, or the root of a mount of one tree.
    pub walk: Option<Arc<Walk>>,
}

/// The entries of an open directory. Requests in progress share them.
pub struct Listing {
    /// The entries.
    pub entries: Arc<[Entry]>,
    /// What they take of the memory that the user may have.
    #[expect(dead_code, reason = "held for its Drop")]
    pub memory: Option<Place>,
}

/// A process that reads the files of a live process.
pub struct Walk {
    /// The process that the files show.
    pub of: ProcId,
    /// The process that reads them.
    pub reader: Pid,
    /// A leaf lock: opens are closed outside of it.
    kept: Mutex<Kept>,
}

/// What a walk keeps.
pub enum Kept {
    /// No file was opened yet.
    Nothing,
    /// An open of the instant of the first file that the reader has opened.
    Snapshot(OpenedLive),
    /// Why there is no instant.
    Refusal(Error),
    /// The directory is closed, so a late open keeps nothing.
    Closed,
}

impl Walk {
    /// A walk of `reader` through the files of `of`.
    pub fn new(of: ProcId, reader: Pid) -> Walk {
        Walk { of, reader, kept: Mutex::new(Kept::Nothing) }
    }

    /// Keeps `kept` if nothing is kept yet. Otherwise drops it outside of the lock, because this
    /// may close the snapshot.
    pub fn keep(&self, kept: Kept) {
        let mut current = self.kept.lock();
        if matches!(*current, Kept::Nothing) {
            *current = kept;
        } else {
            drop(current);
            drop(kept);
        }
    }

    /// Drops what is kept and puts `instead` in its place.
    pub fn replace(&self, instead: Kept) {
        let kept = std::mem::replace(&mut *self.kept.lock(), instead);
        // Outside of the lock, as in `keep`.
        drop(kept);
    }

    /// Whether no file was opened yet.
    pub fn keeps_nothing(&self) -> bool {
        matches!(*self.kept.lock(), Kept::Nothing)
    }

    /// The instant that is kept.
    pub fn instant(&self) -> Option<Of> {
        match &*self.kept.lock() {
            Kept::Snapshot(opened) => Some(opened.key()),
            _ => None,
        }
    }

    /// The reason that is kept.
    pub fn refusal(&self) -> Option<Error> {
        match &*self.kept.lock() {
            Kept::Refusal(error) => Some(error.clone()),
            _ => None,
        }
    }
}

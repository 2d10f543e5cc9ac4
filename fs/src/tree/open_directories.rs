//! Open directories: their entries, and the instant that a walk through them keeps.

use std::sync::Arc;

use ckptfs_dumper::{Error, Kind, Pid, Result};
use parking_lot::Mutex;

use crate::node::{Node, Of};
use crate::process::caller::Caller;
use crate::process::{self, ProcId};
use crate::tree::Tree;
use crate::tree::entry::{Entry, refused};
use crate::tree::handle::Handle;
use crate::tree::walk::{Directory, Kept, Listing, Walk};

impl Tree {
    /// Opens the directory `node` with the number `ino`.
    pub(super) fn open_directory(&self, ino: u64, node: Node, caller: Caller) -> Result<Handle> {
        let of = match node {
            Node::Folder(of) => of,
            Node::Root => self.snapshots.taken_as(Of::CONTAINER),
            _ => Of::CONTAINER,
        };
        let walk = match (of, process::process_of_thread(caller.thread)) {
            (Of::CONTAINER, _) | (_, None) | (Of::Apart(_) | Of::Pinned(_) | Of::Within(..), _) => None,
            (Of::Live(of), Some(reader)) => Some(Arc::new(Walk::new(of, reader))),
        };
        Ok(Handle::Directory(Directory { entries: Mutex::new(self.listing(ino, caller)?), walk }))
    }

    fn listing(&self, ino: u64, caller: Caller) -> Result<Listing> {
        let entries: Arc<[Entry]> = self.list(ino, caller)?.into();
        let bytes = entries.iter().map(|entry| size_of::<Entry>() + entry.name.len()).sum();
        Ok(Listing { entries, memory: self.room.memory(caller.uid, bytes)? })
    }

    /// The handle's entries. They are listed anew when the handle is rewound, which begins another
    /// walk.
    pub fn read_directory(&self, ino: u64, handle: u64, rewound: bool, caller: Caller) -> Result<Arc<[Entry]>> {
        let handle = self.handle(handle)?;
        let Handle::Directory(Directory { entries, walk }) = &*handle else {
            return Err(refused(libc::ENOTDIR, "not a directory"));
        };
        if rewound {
            walk.iter().for_each(|walk| walk.replace(Kept::Nothing));
            let fresh = self.listing(ino, caller)?;
            let old = std::mem::replace(&mut *entries.lock(), fresh);
            drop(old);
        }
        Ok(Arc::clone(&entries.lock().entries))
    }

    /// The instants that walks of `reader` keep.
    pub(super) fn walked_by(&self, reader: Pid) -> Vec<Of> {
        self.walks_of(|walk| walk.reader == reader).iter().filter_map(|walk| walk.instant()).collect()
    }

    /// The walks of `reader` through the files of `id`. The reader has the folder of `id` open, or
    /// the root of a mount of that tree.
    fn walks(&self, id: ProcId, reader: Pid) -> Vec<Arc<Walk>> {
        self.walks_of(|walk| walk.of == id && walk.reader == reader)
    }

    fn walks_of(&self, is_one: impl Fn(&Walk) -> bool) -> Vec<Arc<Walk>> {
        let handles = self.handles.read();
        let walks = handles.all().filter_map(|handle| match handle {
            Handle::Directory(directory) => directory.walk.as_ref(),
            _ => None,
        });
        walks.filter(|walk| is_one(walk)).cloned().collect()
    }

    /// Keeps the reason why `id` cannot be dumped for a walk of `reader`. So the process is stopped
    /// once, not once for each of its files: the walk gets the answer of the first file for all of
    /// them.
    pub(super) fn keep_refusal(&self, id: ProcId, reader: Option<Pid>, error: &Error) {
        let walks = reader.filter(|_| error.kind() == Kind::Unsupported).map(|reader| self.walks(id, reader));
        for walk in walks.unwrap_or_default() {
            walk.keep(Kept::Refusal(error.clone()));
        }
    }

    /// The reason that a walk of `reader` keeps.
    pub(super) fn kept_refusal(&self, id: ProcId, reader: Option<Pid>) -> Option<Error> {
        self.walks(id, reader?).into_iter().find_map(|walk| walk.refusal())
    }

    /// Keeps the live instant `of` that `reader` has just opened, until the directory that it walks
    /// through is closed.
    pub(super) fn keep_snapshot(&self, of: Of, reader: Option<Pid>) {
        let Some(id) = of.live() else { return };
        for walk in reader.map(|reader| self.walks(id, reader)).unwrap_or_default() {
            if !walk.keeps_nothing() {
                continue;
            }
            let Ok(Some(opened)) = self.snapshots.join(of) else { return };
            // Meanwhile another thread of the reader may have been quicker, or the directory was
            // closed.
            walk.keep(Kept::Snapshot(opened));
        }
    }
}

//! Open files: open, read, write, seek, flush, release.

use std::sync::Arc;

use ckptfs_dumper::{Error, Kind, Pid, ReadAhead, Result};
use parking_lot::Mutex;

use crate::node::{File, Node, Of, Role, Steady};
use crate::process::caller::Caller;
use crate::process::{self, ProcId};
use crate::state::kill::kill_tree;
use crate::state::restores::Session;
use crate::state::snapshots::Info;
use crate::state::view::SnapshotView;
use crate::tree::Tree;
use crate::tree::control_files::switch;
use crate::tree::entry::{Access, Attr, Entry, no_entry, refused};
use crate::tree::handle::{Bytes, Directory, Flushed, Handle, KeptHandle, Part, Walk, part_of};
use crate::tree::open_nodes::Closing;
use crate::tree::stat::owner_in;

impl Tree {
    /// Whether an open may take its time: a process has to stop first, or an earlier restore to end.
    pub fn open_blocks(&self, ino: u64) -> bool {
        let blocks =
            |node: Node| node.role() == Role::Snapshot && node.steady() != Steady::Always || node == Node::Restore;
        self.inodes.node(ino).is_some_and(blocks)
    }

    /// How long its contents stay the same.
    pub fn steady(&self, ino: u64) -> Steady {
        self.inodes.node(ino).map_or(Steady::Never, Node::steady)
    }

    /// Opens `ino`. Gives the number of the handle.
    pub fn open(&self, ino: u64, access: Access) -> Result<u64> {
        let (node, reader) = (self.node(ino)?, access.caller.thread);
        let handle = match (node, node.role()) {
            (_, Role::Directory) => {
                let of = match node {
                    Node::Folder(of) => of,
                    Node::Root => self.snapshots.taken_as(Of::CONTAINER),
                    _ => Of::CONTAINER,
                };
                let walk = match (of, process::process_of_thread(reader)) {
                    (Of::CONTAINER, _) | (_, None) | (Of::Pinned(_) | Of::Within(..), _) => None,
                    (Of::Live(of), Some(reader)) => Some(Walk { of, reader, kept: Mutex::default() }),
                };
                Handle::Directory(Directory { entries: Mutex::new(self.list(ino)?), walk })
            }
            // The kernel would take a truncated one for empty, for everybody who reads it.
            (_, Role::Snapshot | Role::Text) if access.write || access.truncate => {
                return Err(refused(libc::EACCES, "read-only"));
            }
            (Node::Restore, _) if access.write => {
                self.journal.wait_for_endings();
                let session = Session::new(Arc::clone(&self.journal), access.append);
                let journal = if access.read { self.journal.text() } else { String::new() };
                Handle::Restore { session: Mutex::new(session), journal: journal.into() }
            }
            (Node::Restore, _) => Handle::Text(self.journal.text().into()),
            (Node::Status, _) => {
                let text = self.status_text();
                let mut open = self.status_open.lock();
                *open = (open.0 + 1, text.len() as u64);
                Handle::Status(text.into())
            }
            (Node::File(Of::Live(id), file @ (File::Freeze | File::Kill)), _) => {
                Handle::Control(id, file, access.caller)
            }
            (Node::File(of, _) | Node::Vma(of, _), _) => {
                let reader = process::process_of_thread(reader);
                loop {
                    // What is open stays what it is, whoever has the pid by now.
                    let known = self.open_nodes.of(node);
                    let of = known.unwrap_or_else(|| self.snapshots.taken_as(of));
                    let handle = match self.open_snapshot(node, of, reader, access.caller) {
                        // It was closed meanwhile.
                        Err(_) if known.is_some() && self.open_nodes.of(node) != known => continue,
                        handle => handle?,
                    };
                    if node.steady() != Steady::WhileOpen || self.open_nodes.open(node, of) {
                        break handle;
                    }
                    // Somebody was quicker, and found another one.
                    drop(handle);
                    self.snapshots.close(of, false);
                }
            }
            (Node::Root | Node::Folder(_) | Node::Vmas(_) | Node::Snapshots(_), _) => {
                return Err(refused(libc::EISDIR, "a directory"));
            }
        };
        let mut handles = self.handles.write();
        handles.next += 1;
        let number = handles.next;
        handles.open.insert(number, Arc::new(handle));
        Ok(number)
    }

    fn open_snapshot(&self, node: Node, of: Of, reader: Option<Pid>, caller: Caller) -> Result<Handle> {
        let view = match (node, of) {
            (Node::File(_, File::Info), Of::Live(id)) => match self.snapshots.open_info(id, reader)? {
                Info::View(view) => view,
                Info::Refusal(text) => return Ok(Handle::Refusal { id, text, flushed: Flushed::default() }),
            },
            (_, Of::Live(id)) => match self.kept_refusal(id, reader) {
                Some(error) => return Err(error),
                None => self.snapshots.open(of, reader).inspect_err(|error| self.keep_refusal(id, reader, error))?,
            },
            _ => self.snapshots.open(of, reader)?,
        };
        let whose = node.of().unwrap_or(of);
        let part = match caller.may_as(owner_in(&view, node, whose).0) {
            true => part(node, of.pid(), &view),
            false => Err(not_all_his(of.pid())),
        };
        match part {
            Ok(part) => {
                if let (Of::Live(id), Some(reader)) = (of, reader) {
                    self.keep_for_walker(id, reader);
                }
                Ok(Handle::Snapshot { node, of, view, part, flushed: Flushed::default() })
            }
            Err(error) => {
                drop(view);
                self.snapshots.close(of, false);
                Err(error)
            }
        }
    }

    /// The directories that `reader` has open of the files of `id`: its folder, or the root of a mount of that tree.
    fn walked(&self, id: ProcId, reader: Pid) -> Vec<Arc<Handle>> {
        let is_walk = |handle: &&Arc<Handle>| matches!(&***handle, Handle::Directory(Directory { walk: Some(walk), .. }) if walk.of == id && walk.reader == reader);
        self.handles.read().open.values().filter(is_walk).cloned().collect()
    }

    /// What cannot be dumped is not stopped once for each of its files: who walks through them hears of all what he has heard of the first.
    fn keep_refusal(&self, id: ProcId, reader: Option<Pid>, error: &Error) {
        let walked = reader.filter(|_| error.kind() == Kind::Unsupported).map(|reader| self.walked(id, reader));
        for handle in walked.unwrap_or_default() {
            if let Handle::Directory(Directory { walk: Some(walk), .. }) = &*handle {
                let mut kept = walk.kept.lock();
                if matches!(&*kept, KeptHandle::Nothing) {
                    *kept = KeptHandle::Refusal(error.clone());
                }
            }
        }
    }

    fn kept_refusal(&self, id: ProcId, reader: Option<Pid>) -> Option<Error> {
        self.walked(id, reader?).into_iter().find_map(|handle| match &*handle {
            Handle::Directory(Directory { walk: Some(walk), .. }) => match &*walk.kept.lock() {
                KeptHandle::Refusal(error) => Some(error.clone()),
                _ => None,
            },
            _ => None,
        })
    }

    /// Who walks through the files of `id` keeps the instant of the one that he has just opened until he closes the directory.
    fn keep_for_walker(&self, id: ProcId, reader: Pid) {
        for handle in self.walked(id, reader) {
            let Handle::Directory(Directory { walk: Some(walk), .. }) = &*handle else { continue };
            if !matches!(&*walk.kept.lock(), KeptHandle::Nothing) {
                continue;
            }
            let Ok(Some(view)) = self.snapshots.join(id) else { return };
            // Meanwhile another thread of his may have been quicker, or the directory closed.
            let mut kept = walk.kept.lock();
            if matches!(&*kept, KeptHandle::Nothing) {
                *kept = KeptHandle::View(view);
            } else {
                drop(kept);
                drop(view);
                self.snapshots.close(Of::Live(id), false);
            }
        }
    }

    /// What a walker has kept goes, and `instead` stands in its place.
    fn let_go(&self, walk: &Walk, instead: KeptHandle) {
        let kept = std::mem::replace(&mut *walk.kept.lock(), instead);
        if let KeptHandle::View(view) = kept {
            // The slot is what drops the snapshot.
            drop(view);
            self.snapshots.close(Of::Live(walk.of), false);
        }
    }

    /// `len` bytes at `offset`: fewer at the end only.
    pub fn read(&self, handle: u64, offset: u64, len: usize, ahead: ReadAhead) -> Result<Bytes> {
        let handle = self.handle(handle)?;
        let bytes = match &*handle {
            Handle::Snapshot { of, view, part, flushed, .. } => {
                if flushed.set(false) {
                    self.snapshots.closing(*of, false);
                }
                let read = part.read(view, offset, len, ahead);
                if let Err(error) = &read {
                    self.status.failed("read", Some(of.pid()), error);
                }
                read?
            }
            Handle::Refusal { id, text, flushed } => {
                if flushed.set(false) {
                    self.snapshots.closing_refusal(*id, false);
                }
                part_of(text.as_bytes().into(), offset, len)
            }
            Handle::Text(text) | Handle::Status(text) => part_of(Arc::clone(text).into(), offset, len),
            Handle::Restore { journal, .. } => part_of(Arc::clone(journal).into(), offset, len),
            Handle::Control(id, File::Freeze, _) => part_of(self.freezer.text(*id).as_bytes().into(), offset, len),
            Handle::Control(..) => part_of([].into(), offset, len),
            Handle::Directory(_) => return Err(refused(libc::EISDIR, "a directory")),
        };
        self.status.count_read(bytes.len());
        Ok(bytes)
    }

    /// The handle's entries; listed anew when it is rewound, which begins another walk.
    pub fn read_directory(&self, ino: u64, handle: u64, rewound: bool) -> Result<Vec<Entry>> {
        let handle = self.handle(handle)?;
        let Handle::Directory(Directory { entries, walk }) = &*handle else {
            return Err(refused(libc::ENOTDIR, "not a directory"));
        };
        if rewound {
            walk.iter().for_each(|walk| self.let_go(walk, KeptHandle::Nothing));
            let fresh = self.list(ino)?;
            *entries.lock() = fresh;
        }
        Ok(entries.lock().clone())
    }

    /// Whether a write may take its time: a tree has to stop or to end first.
    pub fn write_blocks(&self, handle: u64) -> bool {
        self.handle(handle).is_ok_and(|handle| matches!(&*handle, Handle::Control(..)))
    }

    /// Takes all of `bytes`, or nothing.
    pub fn write(&self, handle: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let handle = self.handle(handle)?;
        match &*handle {
            Handle::Restore { session, .. } => session.lock().write(offset, bytes),
            Handle::Control(id, file, caller) => {
                let done = self.control(*id, *file, *caller, bytes);
                if let Err(error) = &done {
                    self.status.failed("control", Some(id.pid), error);
                }
                done
            }
            _ => Err(refused(libc::EBADF, "not open for writing")),
        }
    }

    fn control(&self, id: ProcId, file: File, caller: Caller, bytes: &[u8]) -> Result<()> {
        if !id.is_alive() {
            return Err(Error::new(Kind::NoProcess, format!("pid {}: no such process", id.pid)));
        }
        let may = |owner: Option<(u32, u32)>| match owner {
            Some((uid, _)) if !caller.may_as(uid) => Err(not_all_his(id.pid)),
            _ => Ok(()),
        };
        let of_all = || self.owner_of(Node::File(Of::Live(id), file), id);
        may(of_all())?;
        match (file, switch(bytes)) {
            (File::Freeze, Some(frozen)) => {
                if !frozen {
                    // A tree whose image is being read cannot go on.
                    self.snapshots.settle(id);
                }
                self.freezer.set(id, frozen, process::process_of_thread(caller.thread))?;
                // By now nobody of it becomes anybody else any more.
                may(of_all().filter(|_| frozen)).inspect_err(|_| {
                    let _ = self.freezer.set(id, false, None);
                })
            }
            (File::Kill, Some(true)) => {
                log::info!("pid {}: killing the tree", id.pid);
                kill_tree(&self.container, &self.freezer, id, self.patience, &|id| {
                    may(process::owner(id.pid).filter(|_| !process::has_ended(id.pid)))
                })
            }
            (File::Freeze, None) => Err(refused(libc::EINVAL, &format!("pid {} freeze: write 0 or 1", id.pid))),
            _ => Err(refused(libc::EINVAL, &format!("pid {} kill: write 1", id.pid))),
        }
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE (lseek(2)).
    pub fn seek(&self, handle: u64, offset: u64, data: bool) -> Result<u64> {
        let handle = self.handle(handle)?;
        match &*handle {
            Handle::Snapshot { view, part, .. } => {
                part.seek(view, offset, data)?.ok_or_else(|| refused(libc::ENXIO, "no such offset"))
            }
            _ => Err(refused(libc::EINVAL, "neither data nor holes")),
        }
    }

    /// A descriptor of the handle was closed.
    pub fn flush(&self, handle: u64) -> Result<()> {
        match &*self.handle(handle)? {
            Handle::Snapshot { of, flushed, .. } if flushed.set(true) => self.snapshots.closing(*of, true),
            Handle::Refusal { id, flushed, .. } if flushed.set(true) => self.snapshots.closing_refusal(*id, true),
            Handle::Restore { session, .. } => session.lock().flush()?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a release may take its time: what an image that ended too early has made is killed.
    pub fn release_blocks(&self, handle: u64) -> bool {
        self.handle(handle).is_ok_and(|handle| matches!(&*handle, Handle::Restore { .. }))
    }

    /// The last descriptor of the handle was closed. What is left to be done if with it a node is closed that was steady for as long.
    pub fn release(&self, handle: u64) -> Option<Closing> {
        let handle = self.handles.write().open.remove(&handle)?;
        let mut closing = None;
        match &*handle {
            Handle::Snapshot { node, of, flushed, .. } => {
                let (of, flushed) = (*of, flushed.get());
                closing = self.open_nodes.close(*node);
                // The handle's own share goes first, so that the snapshot is dropped in its slot, where opens wait.
                drop(handle);
                self.snapshots.close(of, flushed);
            }
            Handle::Refusal { id, flushed, .. } => self.snapshots.close_refusal(*id, flushed.get()),
            Handle::Directory(Directory { walk: Some(walk), .. }) => self.let_go(walk, KeptHandle::Closed),
            Handle::Status(_) => {
                let mut open = self.status_open.lock();
                open.0 = open.0.saturating_sub(1);
            }
            _ => {}
        }
        closing
    }

    /// truncate(2), or O_TRUNC: nothing to do for a control file, whose size is 0.
    pub fn truncate(&self, ino: u64, size: u64) -> Result<Attr> {
        let node = self.node(ino)?;
        if node.role() == Role::Control && size == 0 { self.attr_of(node) } else { Err(refused(libc::EPERM, "fixed")) }
    }

    pub(super) fn status_text(&self) -> String {
        self.freezer.forget_dead();
        self.status.text(&self.snapshots.held(), &self.snapshots.pins().all(), &self.freezer.held())
    }

    fn handle(&self, number: u64) -> Result<Arc<Handle>> {
        self.handles.read().open.get(&number).cloned().ok_or_else(|| refused(libc::EBADF, "no such handle"))
    }
}

fn not_all_his(pid: Pid) -> Error {
    let sentence = format!("pid {pid}: it, or a process below it, belongs to somebody else by now");
    Error::new(Kind::System(libc::EACCES), sentence)
}

/// What `node`, a file of the process `pid`, is in an instant.
fn part(node: Node, pid: Pid, view: &SnapshotView) -> Result<Part> {
    match node {
        Node::Vma(_, range) => view.vma(pid, range)?.map(|vma| Part::Vma(pid, vma)).ok_or_else(|| no_entry(range)),
        Node::File(_, File::Core) => view.core(pid).map(Part::Core),
        Node::File(_, File::Info) => view.info(pid).map(|text| Part::Text(text.into())),
        Node::File(_, File::Maps) => view.maps(pid).map(Part::Text),
        _ => Ok(Part::Image),
    }
}

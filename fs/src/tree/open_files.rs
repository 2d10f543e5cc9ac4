//! Opening and releasing files.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ckptfs_dumper::{Error, Identity, Pid, Result};
use parking_lot::Mutex;

use crate::escape;
use crate::node::{File, Node, Of, Role, Steady};
use crate::process;
use crate::process::ProcId;
use crate::process::caller::{Caller, Viewer};
use crate::process::rights::Witness;
use crate::state::restores::{Journal, Session};
use crate::state::snapshots::{Info, Opener};
use crate::state::view::SnapshotView;
use crate::tree::Tree;
use crate::tree::entry::{Access, no_entry, refused};
use crate::tree::handle::{Handle, HandleEntry, Part, SnapshotFile};
use crate::tree::open_nodes::{Closing, OpenedNode};
use crate::tree::walk::Kept;

impl Tree {
    /// Whether an open may block: a process must stop first, or an earlier restore must end.
    pub fn open_blocks(&self, ino: u64) -> bool {
        let blocks = |node: Node| match node {
            Node::Restore(_) | Node::Status(_) | Node::File(_, File::Check) => true,
            node => node.role() == Role::Snapshot && node.steady() != Steady::Always,
        };
        self.inodes.node(ino).is_some_and(blocks)
    }

    /// How long the contents of `ino` stay the same.
    pub fn steady(&self, ino: u64) -> Steady {
        self.inodes.node(ino).map_or(Steady::Never, Node::steady)
    }

    /// Opens `ino`. Returns the number of the handle.
    pub fn open(&self, ino: u64, access: Access) -> Result<u64> {
        let node = self.node(ino)?;
        // The kernel would show a truncated file as empty to every reader.
        if matches!(node.role(), Role::Snapshot | Role::Text) && (access.write || access.truncate) {
            return Err(refused(libc::EACCES, "read-only"));
        }
        let (uid, viewer) = (access.caller.uid, access.caller.viewer());
        if node.viewer().is_some_and(|of| of != viewer) {
            return Err(refused(libc::ESTALE, "the inode of another user"));
        }
        let refuse = |error: &Error| self.status.refused("open", uid, error);
        let mut places = vec![self.room.handle(uid).inspect_err(refuse)?];
        let mut opened_node = None;
        let handle = match node {
            Node::Root | Node::Folder(_) | Node::Vmas(_) | Node::Snapshots(_) => {
                self.open_directory(ino, node, access.caller)?
            }
            Node::Restore(_) => open_restore(&self.journal, ino, access),
            Node::Status(_) => self.open_status(viewer),
            Node::File(Of::Live(id), file @ (File::Freeze | File::Kill)) => {
                Handle::Control(id, file, access.caller.identify())
            }
            Node::File(Of::Live(id), File::Check) => self.open_check(id, access.caller)?,
            Node::File(of, _) | Node::Vma(of, _) => {
                let (handle, opened) = self.open_snapshot_file(node, of, access.caller)?;
                opened_node = opened;
                handle
            }
        };
        places.extend(self.room.memory(uid, handle.memory()).inspect_err(refuse)?);
        Ok(self.handles.write().insert(HandleEntry { handle: Arc::new(handle), node: opened_node, places }))
    }

    fn open_status(&self, viewer: Viewer) -> Handle {
        let text = self.status_text(viewer);
        let len = text.len() as u64;
        let mut open = self.status_open.lock();
        let shown = open.get(&viewer).and_then(Weak::upgrade).unwrap_or_default();
        shown.store(len, Ordering::Relaxed);
        open.retain(|_, len| len.strong_count() > 0);
        open.insert(viewer, Arc::downgrade(&shown));
        Handle::Status(text.into(), shown)
    }

    /// Looks for what would refuse a dump. No process is stopped.
    fn open_check(&self, id: ProcId, caller: Caller) -> Result<Handle> {
        let (reader, who) = (process::process_of_thread(caller.thread), caller.identify());
        let tree = self.tree_seen_by(id, &who)?;
        let _place = self.snapshots.room_to_watch(id, caller.uid, tree.len())?;
        let witness = Witness::new(&who, &tree)?;
        let found = self.snapshots.check(id, reader)?;
        // The lines may tell about any process of the tree.
        witness.is_still_true(&who, &self.tree_seen_by(id, &who)?)?;
        Ok(Handle::Text(escape::lines(&found).into()))
    }

    /// Opens a file of a snapshot, and its node if that has one content at a time.
    fn open_snapshot_file(&self, node: Node, of: Of, caller: Caller) -> Result<(Handle, Option<OpenedNode>)> {
        let (reader, who) = (process::process_of_thread(caller.thread), caller.identify());
        loop {
            // An open node keeps its instant, even if another process has the pid by now.
            let known = self.open_nodes.of(node);
            let now = self.snapshots.taken_as(of);
            let of = known.unwrap_or(now);
            self.sharing.redeem(of);
            let is_open = of.live().is_some() && self.snapshots.peek(of).is_some();
            let by = Opener { reader, uid: caller.uid, holds: is_open && self.holds(caller, of) };
            let handle = match self.open_instant(node, of, by, &who) {
                // It was closed meanwhile.
                Err(_) if known.is_some() && self.open_nodes.of(node) != known => continue,
                handle => handle?,
            };
            let Some(handle) = handle else {
                // The kernel looks the path up again, and finds the instant that is reserved here.
                if let Some(id) = now.live() {
                    self.sharing.reserve(id, caller.thread);
                }
                return Err(refused(libc::ESTALE, "other callers have this instant open"));
            };
            if node.steady() != Steady::WhileOpen {
                return Ok((handle, None));
            }
            if let Some(opened) = self.open_nodes.open(node, of) {
                return Ok((handle, Some(opened)));
            }
            // Another open was quicker and found another instant.
        }
    }

    /// Opens `node` with the instant of `of`, for `who`. `None` means that only other callers have
    /// that open.
    fn open_instant(&self, node: Node, of: Of, by: Opener, who: &Identity) -> Result<Option<Handle>> {
        let report = |error: &Error| self.status.failed("open", of.id(), error);
        let opened = match (node, of.live()) {
            (Node::File(_, File::Info), Some(id)) => {
                let tree = self.tree_seen_by(id, who)?;
                let _place = self.snapshots.room_to_watch(id, by.uid, tree.len()).inspect_err(report)?;
                let witness = Witness::new(who, &tree);
                match self.snapshots.open_info(of, id, by)? {
                    // The text may tell about any process of the tree.
                    Some(Info::Refusal(text)) => {
                        let tree = self.tree_seen_by(id, who)?;
                        witness.and_then(|witness| witness.is_still_true(who, &tree)).inspect_err(report)?;
                        return Ok(Some(Handle::Refusal(text)));
                    }
                    Some(Info::Snapshot(snapshot)) => Some(snapshot),
                    None => None,
                }
            }
            (_, Some(id)) => match self.kept_refusal(id, by.reader) {
                Some(error) => return Err(error),
                None => self.snapshots.open(of, by).inspect_err(|error| self.keep_refusal(id, by.reader, error))?,
            },
            (_, None) => self.snapshots.open(of, by)?,
        };
        let Some(snapshot) = opened else { return Ok(None) };
        let permitted = if node.is_of_all() { snapshot.permits_all(who) } else { snapshot.permits(who, of.pid()) };
        permitted.inspect_err(report)?;
        let part = part(node, of.pid(), &snapshot)?;
        self.keep_snapshot(of, by.reader);
        Ok(Some(Handle::Snapshot(SnapshotFile { of, part, snapshot })))
    }

    /// The processes of the tree of `id`, for questions about the rights of `who`. Empty for a
    /// caller that has all rights.
    fn tree_seen_by(&self, id: ProcId, who: &Identity) -> Result<Vec<Pid>> {
        let tree = || self.container.tree_of(id).map(|ids| ids.into_iter().map(|id| id.pid).collect());
        if who.is_as_mighty() { Ok(Vec::new()) } else { tree() }
    }

    /// Whether a flush or a release may block: the processes of an image that ended too early are
    /// killed, after it was looked for who has the file open.
    pub fn close_blocks(&self, handle: u64) -> bool {
        self.handle(handle).is_ok_and(|handle| matches!(&*handle, Handle::Restore { .. }))
    }

    /// The last descriptor of the handle was closed. Returns the work that is left if this closes
    /// the node too.
    pub fn release(&self, handle: u64) -> Option<Closing> {
        let HandleEntry { handle, node, places: _places } = self.handles.write().remove(handle)?;
        let closing = node.and_then(OpenedNode::close);
        if let Handle::Directory(directory) = &*handle {
            directory.walk.iter().for_each(|walk| walk.replace(Kept::Closed));
        }
        closing
    }

    /// The open handle with this number.
    pub(super) fn handle(&self, number: u64) -> Result<Arc<Handle>> {
        self.handles.read().get(number).ok_or_else(|| refused(libc::EBADF, "no such handle"))
    }

    /// The text of `status` now, for `viewer`.
    pub(super) fn status_text(&self, viewer: Viewer) -> String {
        self.freezer.forget_dead();
        self.status.text(viewer, &self.snapshots.all_open(), &self.snapshots.pins().all(), &self.freezer.held())
    }
}

fn open_restore(journal: &Arc<Journal>, ino: u64, access: Access) -> Handle {
    let text = || journal.text(access.caller.viewer());
    if !access.write {
        return Handle::Journal(text());
    }
    journal.wait_for_endings();
    let session = Session::new(Arc::clone(journal), ino, access.append, access.caller.uid);
    Handle::Restore { session: Mutex::new(session), journal: access.read.then(text) }
}

/// The part of an instant that `node`, a file of the process `pid`, shows.
fn part(node: Node, pid: Pid, view: &SnapshotView) -> Result<Part> {
    match node {
        Node::Vma(_, range) => view.mapping(pid, range)?.map(|vma| Part::Vma(pid, vma)).ok_or_else(|| no_entry(range)),
        Node::File(_, File::Core) => view.core_file(pid).map(Part::Core),
        Node::File(_, File::Info) => view.info_text(pid).map(|text| Part::Text(text.into())),
        Node::File(_, File::Maps) => view.maps_text(pid).map(Part::Text),
        _ => Ok(Part::Image),
    }
}

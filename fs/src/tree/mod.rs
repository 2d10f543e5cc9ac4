//! The mount as a tree of nodes. It answers the requests of the room fuse, without knowing FUSE.
//!
//! Order of locks: every lock of this crate is a leaf. While it is held, no other lock is taken and
//! the engine is not called. There are two exceptions. The lock of a restore session is held while
//! bytes are restored, and the locks of the journal, the container and the status are taken inside
//! it. A tracer is started under the lock of the table of tracers.

pub mod control_files;
pub mod entry;
pub mod handle;
pub mod held;
pub mod inodes;
pub mod io;
pub mod lookup;
pub mod open_directories;
pub mod open_files;
pub mod open_nodes;
pub mod room;
pub mod sharing;
pub mod stat;
pub mod walk;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use ckptfs_dumper::{CgroupFreezer, Options, Result};
use parking_lot::{Mutex, RwLock};

use crate::node::{File, Node, Of, PinId, Role};
use crate::process::caller::{Caller, Viewer};
use crate::process::container::{Container, MountTarget};
use crate::process::{Clock, ProcId, Range};
use crate::state::freezer::Freezer;
use crate::state::pins::{HoldMount, Limits};
use crate::state::restores::Journal;
use crate::state::snapshots::Snapshots;
use crate::state::status::Status;
use crate::state::tracers::Tracers;
use crate::state::view::SnapshotView;
use crate::tree::entry::{Attr, no_entry};
use crate::tree::handle::HandleTable;
use crate::tree::inodes::Inodes;
use crate::tree::open_nodes::OpenNodes;
use crate::tree::room::HandleRoom;
use crate::tree::sharing::{HeldInodes, Sharing};

/// The mount.
pub struct Tree {
    container: Arc<Container>,
    clock: Clock,
    mounted: SystemTime,
    owner: (u32, u32),
    kill_timeout: Duration,
    inodes: Inodes,
    snapshots: Snapshots,
    /// The image that the whole mount shows, if it does not show live processes.
    stored: Option<PinId>,
    freezer: Arc<Freezer>,
    journal: Arc<Journal>,
    status: Arc<Status>,
    /// A leaf lock.
    handles: RwLock<HandleTable>,
    /// While a user has `status` open: the length of the text of its last open. A leaf lock.
    status_open: Mutex<HashMap<Viewer, Weak<AtomicU64>>>,
    open_nodes: Arc<OpenNodes>,
    sharing: Sharing,
    room: HandleRoom,
}

impl Tree {
    /// The tree of `container`, dumped and restored with `options`. Snapshots are pinned within
    /// `limits`. `held` lists what a caller has open on the mount.
    pub fn new(
        container: Container,
        options: Options,
        freezer: Option<CgroupFreezer>,
        limits: Limits,
        mountpoint: String,
        held: HeldInodes,
    ) -> Result<Tree> {
        let container = Arc::new(container);
        let status = Arc::new(Status::new(container.target().to_string(), mountpoint));
        let tracers = Tracers::new(options.clone(), freezer);
        let freezer = Arc::new(Freezer::new(Arc::clone(&tracers)));
        let stored = match container.target() {
            MountTarget::Image(file) => Some(SnapshotView::stored(file, options.restore.key.as_ref())?),
            _ => None,
        };
        let snapshots =
            Snapshots::new(Arc::clone(&container), Arc::clone(&freezer), tracers, Arc::clone(&status), limits);
        let show = |view: SnapshotView| -> Result<PinId> {
            let of = view.root()?.map_or(ProcId::CONTAINER, |pid| ProcId { pid, start: 0 });
            Ok(snapshots.pins().add_unnamed(of, view))
        };
        let stored = stored.map(show).transpose()?;
        Ok(Tree {
            clock: Clock::new()?,
            mounted: SystemTime::now(),
            owner: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
            kill_timeout: options.freeze_timeout,
            inodes: Inodes::new(),
            snapshots,
            stored,
            freezer,
            journal: Journal::new(Arc::clone(&container), Arc::clone(&status), options.restore.clone()),
            container,
            status,
            handles: RwLock::default(),
            status_open: Mutex::default(),
            open_nodes: Arc::default(),
            sharing: Sharing::new(held),
            room: HandleRoom::default(),
        })
    }

    /// The entry `name` of directory `parent`, as `caller` finds it. Counts one lookup of it by the
    /// kernel.
    pub fn lookup(&self, parent: u64, name: &OsStr, caller: Caller) -> Result<Attr> {
        let child = self.child(self.node(parent)?, name).ok_or_else(|| no_entry(name.display()))?;
        let child = self.node_for(child, caller);
        let attr = self.attr_of(child)?;
        self.inodes.look_up(child);
        Ok(attr)
    }

    /// Whether a lookup of `name` may block, or take long: for a file that others have open, all
    /// descriptors of the caller are looked at, and for a mapping that has not been listed, all
    /// mappings of the process.
    pub fn lookup_blocks(&self, parent: u64, name: &OsStr) -> bool {
        match self.inodes.node(parent) {
            Some(Node::Vmas(of)) => {
                let is_listed = || {
                    name.to_str().and_then(Range::parse).is_some_and(|range| self.inodes.knows(Node::Vma(of, range)))
                };
                self.may_be_shared(of) || (self.snapshots.peek(of).is_none() && !is_listed())
            }
            Some(parent) => {
                let mut found = parent.fixed_children().into_iter().filter(|(known, _)| name == *known);
                let is_shared =
                    |node: Node| node.role() == Role::Snapshot && node.of().is_some_and(|of| self.may_be_shared(of));
                found.any(|(_, node)| self.takes_long(node) || is_shared(node))
            }
            None => false,
        }
    }

    /// Whether stat(2) of `ino` may block, or take long.
    pub fn attr_blocks(&self, ino: u64) -> bool {
        self.inodes.node(ino).is_some_and(|node| self.takes_long(node))
    }

    /// Whether a listing of the directory `ino` takes long: it reads /proc of all processes, or the
    /// mappings of one.
    pub fn list_blocks(&self, ino: u64) -> bool {
        matches!(self.inodes.node(ino), Some(Node::Root | Node::Vmas(_)))
    }

    /// Whether the attributes of a node take long. The size of a core file is known only after it
    /// is made, which reads the files that the process has mapped. Bounds of sizes are made of the
    /// mappings of the process, and a read of these waits while the process changes them. The text
    /// of `status`, and the bound of the container, are about all processes.
    fn takes_long(&self, node: Node) -> bool {
        match node {
            Node::Status(_) | Node::File(Of::CONTAINER, _) => true,
            Node::File(of, file @ (File::Core | File::Info | File::Maps)) => match self.snapshots.peek(of) {
                Some(view) => file == File::Core && view.core_is_to_be_made(of.pid()),
                None => true,
            },
            _ => false,
        }
    }

    /// A node by its number. Counts one lookup of it by the kernel.
    pub fn lookup_number(&self, ino: u64) -> Result<Attr> {
        let node = self.node(ino)?;
        let attr = self.attr_of(node)?;
        self.inodes.look_up(node);
        // Nobody else may find it by its number.
        Ok(Attr { fixed_name: false, for_a_moment: false, ..attr })
    }

    /// The kernel forgets `count` lookups of `ino`.
    pub fn forget(&self, ino: u64, count: u64) {
        // There are many users, and a user may have another number next time.
        let is_users = |node: &Node| matches!(node.viewer(), Some(Viewer::User(_)));
        let is_gone = |node: &Node| is_users(node) || !self.exists(*node);
        if let Some(node) = self.inodes.forget(ino, count).filter(is_gone) {
            self.inodes.drop_row(node);
        }
    }

    /// The attributes of `ino`.
    pub fn attr(&self, ino: u64) -> Result<Attr> {
        self.attr_of(self.node(ino)?)
    }

    /// The mount has ended: thaws all held trees and frees all pinned snapshots.
    pub fn close(&self) {
        self.freezer.thaw_all();
        let pinned = self.snapshots.pins().clear();
        if !pinned.is_empty() {
            let paths: Vec<String> = pinned.iter().map(|path| path.display().to_string()).collect();
            log::warn!("unmounting has freed the pinned snapshots {}", paths.join(", "));
        }
    }

    /// Has each pinned snapshot keep the mount in use by what `hold` opens.
    pub fn hold_mount_while_pinned(&self, hold: HoldMount) {
        self.snapshots.pins().hold_mount_by(hold);
    }

    /// The mount is gone from here: the pinned snapshots no longer keep it in use.
    pub fn release_mount(&self) {
        self.snapshots.pins().release_mount();
    }

    fn node(&self, ino: u64) -> Result<Node> {
        self.inodes.node(ino).ok_or_else(|| no_entry(format_args!("inode {ino}")))
    }
}

#[cfg(test)]
mod tests;

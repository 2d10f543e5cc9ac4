//! What stat(2) tells.

use std::time::SystemTime;

use ckptfs_dumper::{Instant as _, Result};

use super::{Tree, no_entry};
use crate::node::{File, Node, Role};
use crate::process::{self, ProcId};
use crate::snapshots::View;

/// What stat(2) tells of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Exact while a handle is open; an upper bound, never 0, before.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// The instant of the snapshot, or the start of the process, or of the mount.
    pub time: SystemTime,
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Tree {
    pub(super) fn attr_of(&self, node: Node) -> Result<Attr> {
        let role = node.role();
        let base = Attr {
            ino: self.inodes.number(node),
            size: 0,
            blocks: 0,
            time: self.mounted,
            directory: role == Role::Directory,
            mode: node.mode(),
            uid: self.owner.0,
            gid: self.owner.1,
        };
        if node == Node::Image {
            let view = self.snapshots.peek(ProcId::CONTAINER);
            let size = match &view {
                Some(view) => view.snapshot().image_len(),
                None => self.container_bound()?,
            };
            let time = view.map_or(self.mounted, |view| view.taken());
            return Ok(Attr { size, blocks: size.div_ceil(512), time, ..base });
        }
        let Some(id) = node.process() else {
            let size = if node == Node::Status { self.status_size() } else { 0 };
            return Ok(Attr { size, blocks: size.div_ceil(512), ..base });
        };
        let view = if role == Role::Snapshot { self.snapshots.peek(id) } else { None };
        // A snapshot outlives its process: what is open can still be asked for.
        let owner = match &view {
            Some(view) => Some(view.owner()),
            None => process::owner(id.pid).filter(|_| id.is_alive()),
        };
        let (uid, gid) = match owner {
            Some(owner) => owner,
            None if self.snapshots.peek_refusal(id).is_some() => self.owner,
            None => return Err(no_entry(id.pid)),
        };
        let time = view.as_ref().map_or_else(|| self.clock.start_of(id), |view| view.taken());
        let (size, blocks) = match role {
            Role::Snapshot => self.extent(node, id, view.as_deref()).ok_or_else(|| no_entry(id.pid))?,
            Role::Directory | Role::Text | Role::Control => (0, 0),
        };
        Ok(Attr { size, blocks, time, uid, gid, ..base })
    }

    /// Size and blocks of a file of a snapshot: exact if `view` is open, else an upper bound.
    fn extent(&self, node: Node, id: ProcId, view: Option<&View>) -> Option<(u64, u64)> {
        let size = match (node, view) {
            (Node::Vma(_, range), view) => {
                let stored = view.and_then(|view| view.vma(range).ok().flatten()).map(|vma| vma.stored.div_ceil(512));
                let guess = || process::memory_in_use(id.pid).unwrap_or(0).min(range.len()).div_ceil(512).max(1);
                return Some((range.len(), stored.unwrap_or_else(guess)));
            }
            (Node::File(_, File::Info), view) => match (self.snapshots.peek_refusal(id), view) {
                (Some(text), _) => text.len() as u64,
                (None, Some(view)) => view.info().ok()?.len() as u64,
                (None, None) => process::info_bound(id.pid)?,
            },
            (Node::File(_, File::Core), Some(view)) => {
                let core = view.core().ok()?;
                return Some((core.len(), core.stored().ok()?.div_ceil(512)));
            }
            (Node::File(_, File::Core), None) => process::core_bound(id.pid)?,
            (Node::File(_, File::Maps), Some(view)) => view.maps().ok()?.len() as u64,
            (Node::File(_, File::Maps), None) => process::maps_bound(id.pid)?,
            (_, Some(view)) => view.snapshot().image_len(),
            (_, None) => process::image_bound(id.pid)?,
        };
        Some((size, size.div_ceil(512)))
    }

    /// How large the image of all members may become, which may be none.
    fn container_bound(&self) -> Result<u64> {
        let bounds = self.container.members()?.into_iter().filter_map(|id| process::image_bound(id.pid));
        Ok(bounds.sum::<u64>().max(1))
    }

    fn status_size(&self) -> u64 {
        let (handles, len) = *self.status_open.lock();
        if handles > 0 { len } else { self.status_text().len() as u64 }
    }
}

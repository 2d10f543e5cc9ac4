//! What stat(2) returns.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use ckptfs_dumper::{Pid, Result};

use crate::node::{ApartId, File, Node, Of, Role, Steady};
use crate::process::caller::Viewer;
use crate::process::{self, ProcId};
use crate::state::view::SnapshotView;
use crate::tree::Tree;
use crate::tree::entry::{Attr, no_entry};

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
            steady: match node.steady() {
                // Changed below, if the node is open.
                Steady::WhileOpen => Steady::Never,
                steady => steady,
            },
            fixed_name: node.has_fixed_name(),
            for_a_moment: node.may_be_checked_late(),
        };
        let Some(of) = node.of() else {
            return match node {
                Node::Snapshots(pid) => self.attr_of_snapshots(pid, base),
                Node::Status(viewer) => {
                    let size = self.status_size(viewer);
                    Ok(Attr { size, blocks: size.div_ceil(512), ..base })
                }
                _ => Ok(base),
            };
        };
        let shows_instant = role == Role::Snapshot || of.pin().is_some();
        let open = self.open_nodes.of(node);
        let view =
            if shows_instant { self.snapshots.peek(open.unwrap_or_else(|| self.snapshots.taken_as(of))) } else { None };
        let steady = if open.is_some() && view.is_some() { node.steady() } else { base.steady };
        // A snapshot outlives its process, so stat(2) of an open file still works.
        let ((uid, gid), time) = match (&view, of) {
            (Some(view), _) => (owner_in(view, node, of), view.taken()),
            (None, Of::CONTAINER) => (self.owner, self.mounted),
            (None, Of::Live(id) | Of::Apart(ApartId { of: id, .. })) => {
                (self.owner_of(node, id).ok_or_else(|| no_entry(id.pid))?, self.clock.start_of(id))
            }
            (None, _) => return Err(no_entry(format_args!("pid {}: a pinned snapshot", of.pid()))),
        };
        let (size, blocks) = match role {
            Role::Snapshot => self.extent(node, of, view.as_deref())?.ok_or_else(|| no_entry(of.pid()))?,
            Role::Directory | Role::Text | Role::Control => (0, 0),
        };
        Ok(Attr { size, blocks, time, uid, gid, steady, ..base })
    }

    /// `PID/snapshots/` belongs to the owner of the process, which may pin snapshots there. Once
    /// the process has ended, it belongs to the owner of its newest snapshot. Its time is that of
    /// the last change, as for other directories.
    fn attr_of_snapshots(&self, pid: Pid, base: Attr) -> Result<Attr> {
        let pins = self.snapshots.pins();
        let changed = pins.changed(pid);
        if pid == ProcId::CONTAINER.pid {
            return Ok(Attr { time: changed.unwrap_or(base.time), ..base });
        }
        let id = self.container.find(pid).or_else(|| Some(pins.last_of(pid)?.of)).ok_or_else(|| no_entry(pid))?;
        let (uid, gid) = self.owner_of(Node::Snapshots(pid), id).ok_or_else(|| no_entry(pid))?;
        Ok(Attr { time: changed.unwrap_or_else(|| self.clock.start_of(id)), uid, gid, ..base })
    }

    /// The owner of a live process's node, if the node exists.
    pub(super) fn owner_of(&self, node: Node, id: ProcId) -> Option<(u32, u32)> {
        if let Some(owner) = process::owner(id.pid).filter(|_| id.is_alive()) {
            let all = || process::owner_of_tree(id.pid).unwrap_or(self.owner);
            return Some(if node.is_of_all() && owner.0 != self.owner.0 { all() } else { owner });
        }
        let pins = self.snapshots.pins();
        match node {
            Node::Folder(_) | Node::Snapshots(_) => {
                let view = pins.view(pins.last_of(id.pid)?)?;
                Some(owner_in(&view, node, Of::Live(id)))
            }
            _ => self.snapshots.peek_refusal(id).map(|_| self.owner),
        }
    }

    /// Size and blocks of a file of a snapshot: exact if `view` is open, otherwise an upper bound.
    /// `None` if the process has gone.
    fn extent(&self, node: Node, of: Of, view: Option<&SnapshotView>) -> Result<Option<(u64, u64)>> {
        let pid = of.pid();
        let refusal = || of.live().and_then(|id| self.snapshots.peek_refusal(id));
        let size = match (node, view) {
            (Node::Vma(_, range), view) => {
                let stored = match view {
                    Some(view) => view.mapping(pid, range)?.map(|vma| vma.stored.div_ceil(512)),
                    None => None,
                };
                let guess = || process::memory_in_use(pid).unwrap_or(0).min(range.len()).div_ceil(512).max(1);
                return Ok(Some((range.len(), stored.unwrap_or_else(guess))));
            }
            (Node::File(_, File::Info), view) => match (refusal(), view) {
                (Some(text), _) => Some(text.len() as u64),
                (None, Some(view)) => Some(view.info_len(pid)?),
                (None, None) => process::info_bound(pid),
            },
            (Node::File(_, File::Core), Some(view)) => {
                let (len, stored) = view.core_extent(pid)?;
                return Ok(Some((len, stored.div_ceil(512))));
            }
            (Node::File(_, File::Core), None) => process::core_bound(pid),
            (Node::File(_, File::Maps), Some(view)) => Some(view.maps_len(pid)?),
            (Node::File(_, File::Maps), None) => process::maps_bound(pid),
            (_, Some(view)) => Some(view.image_len()),
            (_, None) if of.live() == Some(ProcId::CONTAINER) => Some(self.container_bound()?),
            (_, None) => process::image_bound(pid),
        };
        Ok(size.map(|size| (size, size.div_ceil(512))))
    }

    /// An upper bound of the size of the image of all members. There may be none.
    fn container_bound(&self) -> Result<u64> {
        let bounds = self.container.members()?.into_iter().filter_map(|id| process::image_bound(id.pid));
        Ok(bounds.sum::<u64>().max(1))
    }

    fn status_size(&self, viewer: Viewer) -> u64 {
        let open = self.status_open.lock().get(&viewer).and_then(Weak::upgrade);
        open.map_or_else(|| self.status_text(viewer).len() as u64, |len| len.load(Ordering::Relaxed))
    }
}

/// The owner of `node`, a file of `of`, in an instant.
pub(super) fn owner_in(view: &SnapshotView, node: Node, of: Of) -> (u32, u32) {
    if node.is_of_all() { view.owner_of_all(of.pid()) } else { view.owner(of.pid()) }
}

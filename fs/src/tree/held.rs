//! The instants that a caller holds, and the node that it finds at a path.

use crate::node::{Node, Of, Role};
use crate::process;
use crate::process::caller::Caller;
use crate::tree::Tree;

impl Tree {
    /// The node that `caller` finds at the path of `node`.
    pub(super) fn node_for(&self, node: Node, caller: Caller) -> Node {
        let node = node.seen_by(caller.viewer());
        let Some(Of::Live(id)) = node.of().filter(|_| node.role() == Role::Snapshot) else { return node };
        let Some(id) = self.snapshots.taken_as(Of::Live(id)).live() else { return node };
        let open = self.snapshots.open_of(id);
        if open.is_empty() && !self.sharing.has_promised(id) {
            return node;
        }
        if let Some(apart) = self.sharing.reserved(id, caller.thread) {
            return node.with(Of::Apart(apart));
        }
        if open.is_empty() {
            return node;
        }
        let held = self.held(caller);
        match open.iter().find(|of| held.contains(of)) {
            Some(Of::Live(_)) => node,
            Some(apart) => node.with(*apart),
            None if open.contains(&Of::Live(id)) => node.with(Of::Apart(self.sharing.reserve(id, caller.thread))),
            None => node,
        }
    }

    /// Whether an instant of `of` is open or promised, so that callers must be told apart.
    pub(super) fn may_be_shared(&self, of: Of) -> bool {
        let live = of.live().and_then(|_| self.snapshots.taken_as(of).live());
        live.is_some_and(|id| !self.snapshots.open_of(id).is_empty() || self.sharing.has_promised(id))
    }

    /// Whether `caller` has the instant of `of` open.
    pub(super) fn holds(&self, caller: Caller, of: Of) -> bool {
        self.held(caller).contains(&of)
    }

    /// The live instants that `caller` has open.
    fn held(&self, caller: Caller) -> Vec<Of> {
        let nodes = self.sharing.held(caller.thread).into_iter().filter_map(|ino| self.inodes.node(ino));
        let files = nodes.filter(|node| node.role() == Role::Snapshot);
        let by_descriptor = files.filter_map(|node| self.open_nodes.of(node).or_else(|| node.of()));
        let mut held: Vec<Of> = by_descriptor.collect();
        if let Some(reader) = process::process_of_thread(caller.thread) {
            held.extend(self.walked_by(reader));
        }
        held
    }
}

//! Collected -> Forked: what a snapshot is read from, copy-on-write children or the stopped tree.

use std::collections::BTreeMap;

use crate::cow::children::Children;
use crate::freeze::frozen::Frozen;
use crate::snapshot::collect::Collected;
use crate::sys::pid::Pid;

/// What a snapshot of a running tree is read from. Dropping it resumes the tree if it is still
/// stopped, and then ends the children: a parent reaps its child, so it must run by then.
pub struct SnapshotSource {
    /// The tree itself, as long as it is stopped.
    frozen: Option<Frozen>,
    /// The children. Where the tree stays stopped they are of no use, and only wait for their end.
    pub children: Children,
}

impl SnapshotSource {
    /// A tree that is stopped, and the children that were made of it.
    pub fn new(frozen: Frozen, children: Children) -> Self {
        Self { frozen: Some(frozen), children }
    }

    /// Resumes the tree: the snapshot is read from the children.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }

    /// The tree, if it stays stopped.
    pub fn frozen(&mut self) -> Option<&mut Frozen> {
        self.frozen.as_mut()
    }
}

impl Drop for SnapshotSource {
    fn drop(&mut self) {
        self.thaw();
        std::mem::take(&mut self.children).end();
    }
}

/// A collected tree of which is known whose memory the image holds.
pub struct Forked {
    /// The records.
    pub collected: Collected,
    /// Whose memory is read, by process; a process that is missing here is read itself.
    pub memory_of: BTreeMap<Pid, Pid>,
    /// The copy-on-write children among them.
    pub children: Vec<Pid>,
}

impl Forked {
    /// The memory is that of copy-on-write children; the tree goes on meanwhile.
    pub fn with_children(collected: Collected, children: &Children) -> Self {
        let memory_of = children.pids();
        Self { collected, children: memory_of.values().copied().collect(), memory_of }
    }

    /// The memory is that of the stopped tree. A process is read through a thread that has not ended:
    /// /proc shows no memory of a leader that has.
    pub fn with_stopped_tree(mut collected: Collected) -> Self {
        // Copied for children that are not used.
        let mappings = collected.processes.iter_mut().flat_map(|process| &mut process.mappings);
        mappings.for_each(|mapping| mapping.kept = None);
        let processes = collected.tree.processes.iter();
        let memory_of = processes.map(|process| (process.pid, process.representative())).collect();
        Self { collected, memory_of, children: Vec::new() }
    }

    /// Mappings whose contents are not the process's own, by process.
    pub fn shared_mappings(&self) -> BTreeMap<Pid, Vec<(u64, u64)>> {
        self.collected.processes.iter().map(|process| (process.pid, process.shared_mappings())).collect()
    }
}

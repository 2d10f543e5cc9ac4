//! Collected -> Forked: the source of a snapshot, which is copy-on-write children or the stopped
//! tree.

use std::collections::BTreeMap;

use crate::cow::children::Children;
use crate::freeze::frozen::Frozen;
use crate::snapshot::collect::Collected;
use crate::sys::pid::Pid;

/// The source of a snapshot of a running tree. Dropping it resumes the tree if it is still stopped,
/// and then ends the children: a parent reaps its child, so it must run by then.
pub struct SnapshotSource {
    /// The tree itself, as long as it is stopped.
    frozen: Option<Frozen>,
    /// The children. If the tree stays stopped they are of no use, and only wait for their end.
    pub children: Children,
}

impl SnapshotSource {
    /// Takes a stopped tree and its children.
    pub fn new(frozen: Frozen, children: Children) -> Self {
        Self { frozen: Some(frozen), children }
    }

    /// Resumes the tree. The snapshot is read from the children.
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

/// A collected tree with known sources of its memory.
pub struct Forked {
    /// The records.
    pub collected: Collected,
    /// The process that memory is read from, by process. A process that is missing here is read
    /// itself.
    pub memory_of: BTreeMap<Pid, Pid>,
    /// The copy-on-write children among them.
    pub children: Vec<Pid>,
}

impl Forked {
    /// The memory is that of copy-on-write children. The tree runs meanwhile.
    pub fn with_children(collected: Collected, children: &Children) -> Self {
        let memory_of = children.pids();
        Self { collected, children: memory_of.values().copied().collect(), memory_of }
    }

    /// The memory is that of the stopped tree. A process is read through a thread that has not
    /// ended, because /proc shows no memory of a leader that has ended.
    pub fn with_stopped_tree(mut collected: Collected) -> Self {
        // These were copied for children that are not used.
        let mappings = collected.processes.iter_mut().flat_map(|process| &mut process.mappings);
        mappings.for_each(|mapping| mapping.kept = None);
        let processes = collected.tree.processes.iter();
        let memory_of = processes.map(|process| (process.pid, process.representative())).collect();
        Self { collected, memory_of, children: Vec::new() }
    }

    /// Mappings with contents that are not the process's own, by process.
    pub fn shared_mappings(&self) -> BTreeMap<Pid, Vec<(u64, u64)>> {
        self.collected.processes.iter().map(|process| (process.pid, process.shared_mappings())).collect()
    }
}

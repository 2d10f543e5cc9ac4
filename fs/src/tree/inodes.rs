//! The table of inode numbers and nodes.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::node::Node;

/// The number of the root (FUSE_ROOT_ID of the protocol).
pub const ROOT: u64 = 1;

/// The table of inode numbers. Each number is given only once.
///
/// The files of a process, and those of a pinned snapshot, keep their numbers for its whole life,
/// looked up or not, so that two listings agree. After that a row stays only while the kernel holds
/// the number.
pub struct Inodes {
    /// A leaf lock.
    table: Mutex<Table>,
}

struct Table {
    next: u64,
    nodes: HashMap<u64, InodeRow>,
    numbers: HashMap<Node, u64>,
}

struct InodeRow {
    node: Node,
    /// How many lookups have returned the number and were not forgotten by the kernel.
    lookups: u64,
}

impl Inodes {
    /// A table with only the root.
    pub fn new() -> Inodes {
        let root = InodeRow { node: Node::Root, lookups: 0 };
        let table = Table { next: ROOT + 1, nodes: [(ROOT, root)].into(), numbers: [(Node::Root, ROOT)].into() };
        Inodes { table: Mutex::new(table) }
    }

    /// The node of a number that the kernel holds.
    pub fn node(&self, number: u64) -> Option<Node> {
        self.table.lock().nodes.get(&number).map(|row| row.node)
    }

    /// The number of a node.
    pub fn number(&self, node: Node) -> u64 {
        self.table.lock().number(node)
    }

    /// Whether the node has a number: it was listed or looked up, and not pruned since.
    pub fn knows(&self, node: Node) -> bool {
        self.table.lock().numbers.contains_key(&node)
    }

    /// The number of a node. Counts one lookup of it by the kernel.
    pub fn look_up(&self, node: Node) -> u64 {
        let mut table = self.table.lock();
        let number = table.number(node);
        if let Some(row) = table.nodes.get_mut(&number) {
            row.lookups += 1;
        }
        number
    }

    /// The kernel forgets `count` lookups. Returns the node if the kernel no longer holds the
    /// number.
    pub fn forget(&self, number: u64, count: u64) -> Option<Node> {
        let mut table = self.table.lock();
        let row = table.nodes.get_mut(&number)?;
        row.lookups = row.lookups.saturating_sub(count);
        (row.lookups == 0).then_some(row.node)
    }

    /// Drops the row of a node that is gone, unless the kernel holds its number.
    pub fn drop_row(&self, node: Node) {
        let mut table = self.table.lock();
        let Some(number) = table.numbers.get(&node).copied() else { return };
        if node != Node::Root && table.nodes.get(&number).is_some_and(|row| row.lookups == 0) {
            table.nodes.remove(&number);
            table.numbers.remove(&node);
        }
    }

    /// The nodes of all rows that `is_wanted`.
    pub fn all(&self, is_wanted: impl Fn(Node) -> bool) -> Vec<Node> {
        self.table.lock().numbers.keys().copied().filter(|node| is_wanted(*node)).collect()
    }

    /// Drops the rows that the kernel does not hold and for which `keep` is false.
    pub fn prune(&self, keep: impl Fn(Node) -> bool) {
        let mut table = self.table.lock();
        let Table { nodes, numbers, .. } = &mut *table;
        nodes.retain(|_, row| row.lookups > 0 || row.node == Node::Root || keep(row.node));
        numbers.retain(|_, number| nodes.contains_key(number));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().nodes.len()
    }
}

impl Table {
    fn number(&mut self, node: Node) -> u64 {
        let Table { next, nodes, numbers } = self;
        *numbers.entry(node).or_insert_with(|| {
            let number = *next;
            *next += 1;
            nodes.insert(number, InodeRow { node, lookups: 0 });
            number
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::node::{File, Of};
    use crate::process::ProcId;

    fn id(pid: i32, start: u64) -> Of {
        Of::Live(ProcId { pid, start })
    }

    #[test]
    fn numbers_are_unique_and_stay() {
        let inodes = Inodes::new();
        assert_eq!(inodes.number(Node::Root), ROOT);
        let image = Node::File(id(5, 1), File::Image);
        let number = inodes.number(image);
        assert_ne!(number, inodes.number(Node::File(id(5, 2), File::Image)), "another life of the pid");
        assert_ne!(number, inodes.number(Node::Folder(id(5, 1))));
        assert_eq!(inodes.look_up(image), number);
        assert!(inodes.knows(image) && !inodes.knows(Node::Vmas(id(5, 1))));
        assert_eq!(inodes.node(number), Some(image));
        assert_eq!(inodes.forget(number, 1), Some(image));
        assert_eq!(inodes.number(image), number, "forgotten, but the process lives");
    }

    #[test]
    fn rows_of_the_dead_go_with_the_last_lookup_and_no_sooner() {
        let inodes = Inodes::new();
        let folder = Node::Folder(id(5, 1));
        let number = inodes.look_up(folder);
        inodes.look_up(folder);
        inodes.prune(|_| false);
        assert_eq!(inodes.forget(number, 1), None);
        inodes.drop_row(folder);
        assert_eq!(inodes.node(number), Some(folder));
        assert_eq!(inodes.forget(number, 1), Some(folder));
        inodes.drop_row(folder);
        assert_eq!(inodes.node(number), None);
        assert_eq!(inodes.len(), 1);
        assert_ne!(inodes.number(folder), number, "no number comes twice");
        inodes.prune(|_| false);
        assert_eq!((inodes.len(), inodes.number(Node::Root)), (1, ROOT));
    }
}

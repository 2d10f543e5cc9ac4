//! Which blocks of an image are filled or being filled, where its readers are, and which block
//! makes room for another.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::read_ahead::block::{BLOCK, Cell};

/// Blocks at once: two readers, each with its own block and those ahead of it.
pub(super) const CELLS: usize = 8;

/// Blocks that are read ahead of a reader.
pub(super) const AHEAD: usize = 3;

/// How many ends of reads are kept. The next read may continue at one of them.
const READERS: usize = 8;

/// After this many reads, a block that was read ahead and that no reader asked for may make room.
const STALE: u64 = 512;

/// The blocks of an image.
#[derive(Default)]
pub(super) struct BlockTable {
    entries: Vec<BlockEntry>,
    /// Where the last reads ended, oldest first.
    ends: VecDeque<u64>,
    /// The number of reads so far.
    clock: u64,
    tickets: u64,
}

struct BlockEntry {
    cell: Arc<Cell>,
    touched: u64,
    /// Whether its last byte was read.
    used: bool,
}

/// The result of a search for a range.
pub(super) enum FoundBlock {
    /// The range is in this cell.
    Cell(Arc<Cell>),
    /// There is a cell of its block, but it begins after the range.
    Other,
    /// There is no cell.
    Nothing,
}

impl BlockTable {
    /// Records a read of `offset..end`. Returns whether it continues where another ended.
    pub(super) fn advance(&mut self, offset: u64, end: u64) -> bool {
        self.clock += 1;
        let before = self.ends.iter().position(|known| *known == offset);
        match before {
            Some(index) => drop(self.ends.remove(index)),
            None if self.ends.len() == READERS => drop(self.ends.pop_front()),
            None => {}
        }
        self.ends.push_back(end);
        before.is_some()
    }

    /// Searches for the bytes `from..upto` of one block, for a reader that is about to read them.
    pub(super) fn find(&mut self, from: u64, upto: u64) -> FoundBlock {
        let clock = self.clock;
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_of(from)) else { return FoundBlock::Nothing };
        if entry.cell.start() > from {
            return FoundBlock::Other;
        }
        entry.touched = clock;
        entry.used |= upto == entry.cell.end();
        FoundBlock::Cell(entry.cell.clone())
    }

    /// Whether there is a cell of the block of `offset`.
    pub(super) fn holds(&self, offset: u64) -> bool {
        self.entries.iter().any(|entry| entry.is_of(offset))
    }

    /// Makes room for one cell, for a reader at the offset `reader`. Used blocks go first, then
    /// stale ones. A block that another reader is about to read stays. Returns false if there is no
    /// room.
    pub(super) fn make_room(&mut self, reader: u64) -> bool {
        if self.entries.len() < CELLS {
            return true;
        }
        let ours = reader / BLOCK;
        let goes = self.entries.iter().enumerate().filter(|(_, entry)| {
            let number = entry.cell.start() / BLOCK;
            let wanted = ours <= number && number <= ours + AHEAD as u64;
            let forgotten = self.clock - entry.touched > STALE;
            (entry.used || forgotten) && !wanted && !entry.cell.is_filling()
        });
        let Some((index, _)) = goes.min_by_key(|(_, entry)| (!entry.used, entry.touched)) else { return false };
        self.entries.swap_remove(index);
        true
    }

    /// A new cell of the block of `from`, from there on. Its ticket is higher than all earlier
    /// ones.
    pub(super) fn claim(&mut self, from: u64) -> Arc<Cell> {
        self.tickets += 1;
        let cell = Arc::new(Cell::new(from, self.tickets));
        self.entries.push(BlockEntry { cell: cell.clone(), touched: self.clock, used: false });
        cell
    }

    pub(super) fn remove(&mut self, cell: &Arc<Cell>) {
        self.entries.retain(|entry| !Arc::ptr_eq(&entry.cell, cell));
    }

    /// Cells being filled, with a ticket below `ticket`, that overlap `from..upto`.
    pub(super) fn filling(&self, ticket: u64, from: u64, upto: u64) -> Vec<Arc<Cell>> {
        let cells = self.entries.iter().map(|entry| &entry.cell);
        let older = cells.filter(|cell| cell.ticket() < ticket && cell.start() < upto && cell.end() > from);
        older.filter(|cell| cell.is_filling()).cloned().collect()
    }

    /// Drops all blocks that are not being filled.
    pub(super) fn forget(&mut self) {
        self.entries.retain(|entry| entry.cell.is_filling());
    }

    /// Drops all blocks if all were used, after the last one has been. Returns whether it did.
    pub(super) fn forget_if_idle(&mut self) -> bool {
        let last = self.entries.iter().map(|entry| entry.cell.start()).max();
        let idle = self.entries.iter().all(|entry| entry.used || Some(entry.cell.start()) == last);
        if idle {
            self.entries.clear();
        }
        idle
    }
}

impl BlockEntry {
    fn is_of(&self, offset: u64) -> bool {
        self.cell.start() / BLOCK == offset / BLOCK
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::error::Error;

    /// Settles a cell, so that it is not being filled any more. The table does not depend on the
    /// reason.
    fn settled(table: &mut BlockTable, from: u64) {
        table.claim(from).fail(Error::unsupported("test"));
    }

    #[test]
    fn a_read_that_goes_on_is_sequential_among_several_readers() {
        let mut table = BlockTable::default();
        assert!(!table.advance(0, 10));
        assert!(!table.advance(1000, 1010));
        assert!(table.advance(10, 20));
        assert!(table.advance(1010, 1020));
        assert!(!table.advance(10, 20));
        for far in 2..2 + READERS as u64 {
            table.advance(far << 20, far << 20);
        }
        assert!(!table.advance(1020, 1030));
    }

    #[test]
    fn a_cell_serves_what_lies_behind_its_start() {
        let mut table = BlockTable::default();
        table.claim(BLOCK + 100);
        assert!(matches!(table.find(BLOCK + 100, BLOCK + 200), FoundBlock::Cell(_)));
        assert!(matches!(table.find(BLOCK + 99, BLOCK + 200), FoundBlock::Other));
        assert!(matches!(table.find(BLOCK - 1, BLOCK), FoundBlock::Nothing));
        assert!(table.holds(BLOCK) && !table.holds(0) && !table.holds(2 * BLOCK));
    }

    #[test]
    fn used_blocks_make_room_and_those_that_are_wanted_do_not() {
        let mut table = BlockTable::default();
        for number in 0..CELLS as u64 {
            assert!(table.make_room(0));
            settled(&mut table, number * BLOCK);
        }
        assert!(!table.make_room(0));
        table.find(5 * BLOCK, 6 * BLOCK);
        table.find(BLOCK, 2 * BLOCK);
        assert!(table.make_room(0));
        assert!(!table.holds(5 * BLOCK) && table.holds(BLOCK));
    }

    #[test]
    fn blocks_that_no_reader_asked_for_make_room_in_the_end() {
        let mut table = BlockTable::default();
        (0..CELLS as u64).for_each(|number| settled(&mut table, number * BLOCK));
        (0..=STALE).for_each(|read| assert!(!table.advance(read * 7, read * 7 + 1)));
        assert!(table.make_room(100 * BLOCK));
    }

    #[test]
    fn only_older_cells_under_way_are_waited_for() {
        let mut table = BlockTable::default();
        let first = table.claim(0);
        let second = table.claim(BLOCK);
        let tickets = |cells: Vec<Arc<Cell>>| cells.iter().map(|cell| cell.ticket()).collect::<Vec<_>>();
        assert_eq!(tickets(table.filling(second.ticket(), BLOCK / 2, BLOCK)), [first.ticket()]);
        assert!(table.filling(first.ticket(), 0, 2 * BLOCK).is_empty());
        assert!(table.filling(u64::MAX, BLOCK, BLOCK).is_empty());
        first.fail(Error::unsupported("test"));
        assert!(table.filling(second.ticket(), 0, BLOCK).is_empty());
    }

    #[test]
    fn all_is_forgotten_when_no_block_is_left_to_read() {
        let mut table = BlockTable::default();
        settled(&mut table, 0);
        settled(&mut table, BLOCK);
        assert!(!table.forget_if_idle());
        table.find(0, BLOCK);
        assert!(table.forget_if_idle());
        assert!(!table.holds(0));
    }
}

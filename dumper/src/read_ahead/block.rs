//! Blocks of an image, the cells in which readers wait for them, and their buffers.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Length of a block in bytes. Blocks start at multiples of it, like reads with the `st_blksize` of
/// 1 MiB.
pub(super) const BLOCK: u64 = 1 << 20;

/// The most buffers that one [`super::ImageReader`] may have at once, in its table and with its
/// callers.
pub(super) const BUFFERS: usize = 12;

/// Buffers that are kept for reuse. A fresh buffer costs the kernel 256 page faults.
#[derive(Default)]
pub(super) struct Pool(Mutex<Stock>);

#[derive(Default)]
struct Stock {
    spare: Vec<Vec<u8>>,
    /// How many buffers are in use.
    out: usize,
    /// Whether a buffer is kept when it returns.
    keep: bool,
}

impl Pool {
    /// A buffer of [`BLOCK`] bytes of any value, or `None` if all are in use.
    pub(super) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let mut stock = self.0.lock();
        if stock.out == BUFFERS {
            return None;
        }
        stock.out += 1;
        stock.keep = true;
        let spare = stock.spare.pop();
        drop(stock);
        Some(Buffer { bytes: spare.unwrap_or_else(|| vec![0; BLOCK as usize]), pool: self.clone() })
    }

    /// Frees the spare buffers now, and those in use when they return.
    pub(super) fn clear(&self) {
        let mut stock = self.0.lock();
        stock.spare = Vec::new();
        stock.keep = false;
    }

    /// How many buffers take memory now.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let stock = self.0.lock();
        stock.out + stock.spare.len()
    }
}

/// [`BLOCK`] bytes that return to their pool.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut stock = self.pool.0.lock();
        stock.out -= 1;
        if stock.keep {
            stock.spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Bytes of the image, complete.
pub(super) struct Block {
    start: u64,
    len: usize,
    buffer: Buffer,
}

impl Block {
    pub(super) fn new(start: u64, len: usize, buffer: Buffer) -> Block {
        Block { start, len, buffer }
    }

    /// Offset in the image of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// The cell of a block that is filled or will be. It may begin inside the block, at the place where
/// its reader began.
pub(super) struct Cell {
    start: u64,
    ticket: u64,
    state: Mutex<BlockState>,
    changed: Condvar,
}

enum BlockState {
    Filling,
    Ready(Arc<Block>),
    Failed(Error),
}

impl Cell {
    pub(super) fn new(start: u64, ticket: u64) -> Cell {
        Cell { start, ticket, state: Mutex::new(BlockState::Filling), changed: Condvar::new() }
    }

    /// Offset of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Offset after the last byte (of a block that the image's end does not cut).
    pub(super) fn end(&self) -> u64 {
        (self.start / BLOCK + 1) * BLOCK
    }

    /// Cells are begun in the order of their tickets. So a cell may wait only for those with lower
    /// tickets.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }

    pub(super) fn is_filling(&self) -> bool {
        matches!(*self.state.lock(), BlockState::Filling)
    }

    pub(super) fn succeed(&self, block: Block) {
        self.settle(BlockState::Ready(Arc::new(block)));
    }

    pub(super) fn fail(&self, error: Error) {
        self.settle(BlockState::Failed(error));
    }

    /// Waits until the block is filled.
    pub(super) fn wait(&self) -> Result<Arc<Block>> {
        let mut state = self.state.lock();
        loop {
            match &*state {
                BlockState::Ready(block) => return Ok(block.clone()),
                BlockState::Failed(error) => return Err(error.clone()),
                BlockState::Filling => self.changed.wait(&mut state),
            }
        }
    }

    fn settle(&self, state: BlockState) {
        *self.state.lock() = state;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn buffers_are_bounded_used_again_and_given_back() {
        let pool = Arc::new(Pool::default());
        let all: Vec<_> = (0..BUFFERS).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none());
        let place = all[BUFFERS - 1].as_ptr();
        drop(all);
        assert_eq!(pool.held(), BUFFERS);
        let again = pool.take().unwrap();
        assert_eq!(again.as_ptr(), place);
        pool.clear();
        assert_eq!(pool.held(), 1);
        drop(again);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn a_failure_reaches_every_waiting_reader() {
        let cell = Arc::new(Cell::new(5, 0));
        assert!(cell.is_filling());
        assert_eq!(cell.end(), BLOCK);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let cell = cell.clone();
                std::thread::spawn(move || cell.wait().map(|_| ()).unwrap_err().to_string())
            })
            .collect();
        cell.fail(Error::unsupported("gone"));
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), "gone");
        }
    }
}

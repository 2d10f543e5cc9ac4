//! An image read by offset for FUSE: any range, in any order, by several readers, with read-ahead
//! for readers that go from front to back.
//!
//! If the reader does not read ahead itself, a read that continues another is sequential. From
//! there on whole blocks are filled, two threads fill the next ones meanwhile, and a reader gets a
//! slice of a block without a copy. Any other read goes straight to the layout and keeps nothing.
//! Memory is bounded by a dozen blocks whatever the image's size. Threads and memory are allocated
//! at the first sequential read. The memory is freed when the last byte is read, the threads end on
//! Drop.
//!
//! Locks, in this order: table, workers, pool. A cell's state is locked last and never while taking
//! another.

pub mod block;
pub mod table;

#[cfg(test)]
mod tests;

use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::error::{Error, Kind, Result};
use crate::image::layout::Layout;
use crate::image::page_source::PageSource;
use crate::read_ahead::block::{BLOCK, Block, Buffer, Cell, Pool};
use crate::read_ahead::table::{AHEAD, BlockTable, CELLS, FoundBlock};

/// How many threads read ahead.
const WORKERS: usize = 2;

/// Which side reads ahead for a reader that goes from front to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// The image reader. The caller asks for one piece after the other.
    Ours,
    /// The caller, which asks for several pieces at once, as the page cache does. Blocks that were
    /// filled ahead of other readers are used, and no others are filled.
    Theirs,
}

/// The bytes of one image, for any number of readers at once.
pub struct ImageReader {
    shared: Arc<SharedState>,
    workers: Mutex<Option<Workers>>,
}

struct SharedState {
    layout: Arc<Layout>,
    pages: Arc<dyn PageSource>,
    table: Mutex<BlockTable>,
    pool: Arc<Pool>,
    stopping: AtomicBool,
}

struct Workers {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

/// A block to be filled. If the job is dropped before that, the block fails, so that no reader
/// waits for it for ever.
struct Job {
    shared: Arc<SharedState>,
    cell: Arc<Cell>,
    buffer: Option<Buffer>,
}

/// Bytes of an image: a slice of a block, or a copy.
pub struct Piece(Bytes);

enum Bytes {
    Shared(Arc<Block>, Range<usize>),
    Own(Vec<u8>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Shared(block, range) => &block.bytes()[range.clone()],
            Bytes::Own(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Piece(Bytes::Own(bytes))
    }
}

impl ImageReader {
    /// A reader of `layout`. `pages` has the contents of its pages.
    pub fn new(layout: Arc<Layout>, pages: Arc<dyn PageSource>) -> ImageReader {
        let (table, pool) = (Mutex::new(BlockTable::default()), Arc::new(Pool::default()));
        let shared = SharedState { layout, pages, table, pool, stopping: AtomicBool::new(false) };
        ImageReader { shared: Arc::new(shared), workers: Mutex::new(None) }
    }

    /// The length of the whole image, bytes.
    pub fn image_len(&self) -> u64 {
        self.shared.layout.len()
    }

    /// `len` bytes of the image from `offset` on. Fewer only at its end, none beyond. If a page
    /// cannot be read, all readers that wait for it get the error, and the next read tries again.
    pub fn read(&self, offset: u64, len: usize, ahead: ReadAhead) -> Result<Piece> {
        let end = offset.saturating_add(len as u64).min(self.image_len());
        if offset >= end {
            return Ok(Piece(Bytes::Own(Vec::new())));
        }
        // A reader that begins with a whole block at the front will probably read all (cat, dd
        // bs=1M). One that reads only the header asks for less.
        let begins = offset == 0 && end >= BLOCK;
        let sequential = ahead == ReadAhead::Ours && (self.shared.table.lock().advance(offset, end) || begins);
        let last = (end - 1) / BLOCK;
        if offset / BLOCK == last
            && let Some((block, range)) = self.slice(offset, end, sequential)?
        {
            return Ok(Piece(Bytes::Shared(block, range)));
        }
        let mut bytes = vec![0; (end - offset) as usize];
        let mut rest = &mut bytes[..];
        let mut at = offset;
        while at < end {
            let upto = end.min((at / BLOCK + 1) * BLOCK);
            let (place, behind) = rest.split_at_mut((upto - at) as usize);
            match if offset / BLOCK == last { None } else { self.slice(at, upto, sequential)? } {
                Some((block, range)) => place.copy_from_slice(&block.bytes()[range]),
                None => self.shared.fill(at, place, u64::MAX)?,
            }
            rest = behind;
            at = upto;
        }
        Ok(Piece(Bytes::Own(bytes)))
    }

    /// Frees what was read ahead, and ends the threads. Call it when no reads are expected for a
    /// while. The next reader starts them again.
    pub fn rest(&self) {
        let workers = self.workers.lock().take();
        // Not under the lock: the workers finish jobs, which take other locks.
        workers.into_iter().for_each(Workers::end);
        self.shared.table.lock().forget();
        self.shared.pool.clear();
    }

    /// The bytes `from..upto`, which are inside one block. `None` if they are better read directly.
    fn slice(&self, from: u64, upto: u64, sequential: bool) -> Result<Option<(Arc<Block>, Range<usize>)>> {
        let mut table = self.shared.table.lock();
        let cell = match table.find(from, upto) {
            FoundBlock::Cell(cell) => cell,
            FoundBlock::Other => return Ok(None),
            FoundBlock::Nothing if !sequential => return Ok(None),
            FoundBlock::Nothing => {
                let Some(job) = self.shared.claim(&mut table, from, from) else { return Ok(None) };
                let cell = job.cell.clone();
                self.read_ahead(&mut table, from);
                drop(table);
                job.run();
                let block = cell.wait()?;
                self.shared.table.lock().find(from, upto);
                return self.cut(block, from, upto);
            }
        };
        if sequential {
            self.read_ahead(&mut table, from);
        }
        drop(table);
        let block = cell.wait()?;
        self.cut(block, from, upto)
    }

    fn cut(&self, block: Arc<Block>, from: u64, upto: u64) -> Result<Option<(Arc<Block>, Range<usize>)>> {
        if upto == self.image_len() {
            self.shared.release();
        }
        let range = (from - block.start()) as usize..(upto - block.start()) as usize;
        Ok(Some((block, range)))
    }

    /// Starts to fill the blocks after that of `at`.
    fn read_ahead(&self, table: &mut BlockTable, at: u64) {
        let mut workers = self.workers.lock();
        for number in (at / BLOCK + 1..).take(AHEAD) {
            let start = number * BLOCK;
            if start >= self.image_len() {
                break;
            }
            if table.holds(start) {
                continue;
            }
            let Some(running) = workers.get_or_insert_with(Workers::start).ready() else { break };
            let Some(job) = self.shared.claim(table, start, at) else { break };
            // The channel has room for every cell, and its workers live as long as it does, so this
            // does not happen. If it did, a reader would fill the block.
            if let Err(refused) = running.jobs.try_send(job) {
                let job = refused.into_inner();
                table.remove(&job.cell);
                job.cell.fail(given_up());
                break;
            }
        }
    }
}

impl Drop for ImageReader {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.workers.get_mut().take().into_iter().for_each(Workers::end);
    }
}

impl Workers {
    fn start() -> Workers {
        let (jobs, queue) = bounded::<Job>(CELLS);
        let mut threads = Vec::new();
        for _ in 0..WORKERS {
            let queue: Receiver<Job> = queue.clone();
            let thread = std::thread::Builder::new().name("read-ahead".to_string());
            match thread.spawn(move || queue.iter().for_each(Job::run_guarded)) {
                Ok(thread) => threads.push(thread),
                Err(error) => log::warn!("starting a read-ahead thread: {error}"),
            }
        }
        Workers { jobs, threads }
    }

    fn end(self) {
        drop(self.jobs);
        for thread in self.threads {
            drop(thread.join());
        }
    }

    /// `None` if no thread could be started. Then every reader reads for itself.
    fn ready(&self) -> Option<&Workers> {
        (!self.threads.is_empty()).then_some(self)
    }
}

impl SharedState {
    /// Fills `buf` from `offset` on. Waits for checksums that blocks with an older ticket than
    /// `ticket` are about to compute.
    fn fill(&self, offset: u64, buf: &mut [u8], ticket: u64) -> Result<()> {
        let filled = self.layout.fill(&*self.pages, offset, buf)?;
        if let Some(from) = self.layout.depends_from(&filled) {
            // Collected first: waiting with the table locked would stop all readers.
            let older = self.table.lock().filling(ticket, from, offset);
            older.iter().for_each(|cell| drop(cell.wait()));
        }
        self.layout.settle(&*self.pages, offset, buf, filled)
    }

    /// A cell for the block of `from`, from there on, or `None` if there is no room. `reader` is
    /// the position of its reader.
    fn claim(self: &Arc<Self>, table: &mut BlockTable, from: u64, reader: u64) -> Option<Job> {
        if !table.make_room(reader) {
            return None;
        }
        let buffer = self.pool.take()?;
        let cell = table.claim(from);
        Some(Job { shared: self.clone(), cell, buffer: Some(buffer) })
    }

    /// Called after the last byte was read. Frees memory unless blocks are still being read.
    fn release(&self) {
        let mut table = self.table.lock();
        if table.forget_if_idle() {
            self.pool.clear();
        }
    }
}

impl Job {
    /// For a worker: a page source that panics fails its block, but not the jobs that wait in the
    /// channel.
    fn run_guarded(self) {
        drop(catch_unwind(AssertUnwindSafe(|| self.run())));
    }

    fn run(mut self) {
        let Some(mut buffer) = self.buffer.take() else { return };
        if self.shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let start = self.cell.start();
        let len = (self.cell.end().min(self.shared.layout.len()) - start) as usize;
        match self.shared.fill(start, &mut buffer[..len], self.cell.ticket()) {
            Ok(()) => self.cell.succeed(Block::new(start, len, buffer)),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: Error) {
        self.shared.table.lock().remove(&self.cell);
        self.cell.fail(error);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.cell.is_filling() {
            self.fail(given_up());
        }
    }
}

fn given_up() -> Error {
    Error::new(Kind::SnapshotLost, "reading the image ahead: given up")
}

//! Records -> kernel: an image lives again.
//!
//! One thread per [`Restorer`] makes the processes (they are its children: a parent-death signal
//! means *this* thread, so it stays until they have ended, and reaps them). It is fed with the
//! bytes of images as they arrive, some of them ahead, so that whoever brings them need not wait
//! while memory is filled; only the last bytes of an image are waited for. Everything that is made
//! is traced with EXITKILL and stopped until the trailer has been verified: a failure at any
//! instant, the daemon's own death included, leaves nothing behind.

pub mod attributes;
pub mod core_flag;
pub mod descriptors;
pub mod files;
pub mod image;
pub mod job_control;
pub mod memory;
pub mod outcome;
pub mod pending;
pub mod process;
pub mod pstree;
pub mod rollback;
pub mod shmat;
pub mod signals;

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::error::{Doing, Error, Kind, Result};
use crate::image::decoder::Decoder;
use crate::image::decoder::sink::Sink;
use crate::image::format::Header;
use crate::image::frame::Record;
use crate::options::ChangedFiles;
use crate::restore::image::ImageRestore;
use crate::restore::outcome::Restored;
use crate::sys::pidfd::{self, PidFd};

/// How many writes may be under way: each is up to 1 MiB of the daemon's memory.
const AHEAD: usize = 4;

/// How long the end of those that a failed restore has made is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A restore in progress: fed with the bytes of images in order, cut anywhere. Dropped before the
/// end of an image it kills everything that it has made of that one, and waits until that is gone.
pub struct Restorer {
    /// `None` once nothing more comes.
    to: Option<Sender<Vec<u8>>>,
    from: Receiver<Answer>,
    /// Bytes handed over so far.
    sent: u64,
    /// Writes that were not answered yet.
    under_way: usize,
    /// Where in the input the image under way ends, as far as that is known.
    end: Option<u64>,
    restored: Vec<Restored>,
    incomplete: Option<Error>,
    failure: Option<Error>,
    /// Used again and again: fresh memory would cost a page fault every 4 KiB.
    buffers: Vec<Vec<u8>>,
}

struct Answer {
    /// What was sent.
    bytes: Vec<u8>,
    result: Result<()>,
    restored: Vec<Restored>,
    /// Where in the input the image under way ends.
    end: Option<u64>,
    /// What it would mean if the bytes ended here.
    incomplete: Option<Error>,
}

impl Restorer {
    /// Starts the thread; nothing else happens before the first byte.
    pub fn new(changed_files: ChangedFiles) -> Result<Self> {
        let (to, inbox) = bounded(AHEAD);
        let (outbox, from) = bounded(AHEAD);
        std::thread::Builder::new()
            .name("restorer".into())
            .spawn(move || work(&inbox, outbox, changed_files))
            .doing(|| "starting a restorer thread")?;
        let (restored, incomplete, failure, buffers) = Default::default();
        Ok(Self { to: Some(to), from, sent: 0, under_way: 0, end: None, restored, incomplete, failure, buffers })
    }

    /// The next bytes. When the last byte of an image is in, its processes run before this returns;
    /// what is wrong with the bytes before may be told a few writes later.
    ///
    /// # Errors
    /// [`Kind::Damaged`], [`Kind::PidTaken`], [`Kind::NotFound`], [`Kind::System`]: nothing of the
    /// image is left, and every further write gives the same error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.failed()?;
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.sent += bytes.len() as u64;
        let to = self.to.as_ref().ok_or_else(thread_has_ended)?;
        to.send(buffer).map_err(|_| thread_has_ended())?;
        self.under_way += 1;
        // Where no image is known to go on, these bytes may be its last.
        let is_inside = |it: &Self| it.end.is_some_and(|end| it.sent < end);
        while self.under_way > 0 && !(is_inside(self) && self.under_way < AHEAD) {
            self.hear()?;
        }
        self.failed()
    }

    /// Waits for the answer to a write.
    fn hear(&mut self) -> Result<()> {
        let answer = self.from.recv().map_err(|_| thread_has_ended())?;
        self.under_way -= 1;
        self.buffers.push(answer.bytes);
        self.restored.extend(answer.restored);
        self.end = answer.end;
        self.incomplete = answer.incomplete;
        if self.failure.is_none() {
            self.failure = answer.result.err();
        }
        Ok(())
    }

    fn failed(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// What was restored so far.
    pub fn restored(&self) -> &[Restored] {
        &self.restored
    }

    /// What it means if the bytes end here: `Err` in the middle of an image, or after a failure.
    pub fn finish(&mut self) -> Result<()> {
        while self.under_way > 0 {
            self.hear()?;
        }
        self.failed().and(self.incomplete.clone().map_or(Ok(()), Err))
    }
}

impl Drop for Restorer {
    fn drop(&mut self) {
        self.to = None;
        // Whoever tries again at once finds nothing in his way, and whose program ends leaves
        // nobody half made.
        let end = Instant::now() + PATIENCE;
        while self.from.recv_deadline(end).is_ok() {}
    }
}

fn thread_has_ended() -> Error {
    Error::new(Kind::SnapshotLost, "the restorer thread has ended")
}

fn work(inbox: &Receiver<Vec<u8>>, outbox: Sender<Answer>, changed_files: ChangedFiles) {
    let mut decoder = Decoder::new();
    let mut builder = ImageSink { changed_files, image: None, restored: Vec::new(), roots: Vec::new() };
    let mut roots = Vec::new();
    while let Ok(bytes) = inbox.recv() {
        let result = decoder.push(&bytes, &mut builder);
        if result.is_err() {
            // Kills and reaps what was made.
            builder.image = None;
        }
        let restored = std::mem::take(&mut builder.restored);
        // A root that has ended already is a zombie of ours until its pidfd is polled.
        roots.append(&mut builder.roots);
        let (end, incomplete) = (decoder.end(), decoder.finish().err());
        if outbox.send(Answer { bytes, result, restored, end, incomplete }).is_err() {
            break;
        }
    }
    drop(builder);
    // Nothing is left of what did not come to its end.
    drop(outbox);
    pidfd::reap(roots);
}

/// Turns the decoder's events into a process.
struct ImageSink {
    changed_files: ChangedFiles,
    image: Option<ImageRestore>,
    restored: Vec<Restored>,
    /// Children of this thread.
    roots: Vec<PidFd>,
}

impl ImageSink {
    fn image(&mut self) -> Result<&mut ImageRestore> {
        self.image.as_mut().ok_or_else(|| Error::damaged("a record outside an image"))
    }
}

impl Sink for ImageSink {
    fn header(&mut self, _header: &Header) -> Result<()> {
        self.image = Some(ImageRestore::new(Instant::now(), self.changed_files));
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.image()?.record(record)
    }

    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.image()?.pages(address, bytes)
    }

    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, total: u64) -> Result<()> {
        let image = self.image.take().ok_or_else(|| Error::damaged("an end without an image"))?;
        let (restored, roots) = image.finish(total)?;
        self.roots.extend(roots);
        log::info!("pid {}: restored from {total} bytes in {:?}", restored.root, restored.elapsed);
        self.restored.push(restored);
        Ok(())
    }
}

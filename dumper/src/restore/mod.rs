//! Records -> kernel: an image lives again.
//!
//! One thread per [`Restorer`] makes the processes. They are its children, and a parent-death
//! signal of theirs means *this* thread, so it stays until they have ended, and reaps them. It gets
//! the bytes of images as they arrive. A few writes are accepted ahead of the work on them, so that
//! the caller can read on while memory is filled; only the last write of an image waits for the
//! result. All new processes are traced with EXITKILL and stopped until the trailer has been
//! verified. A failure at any instant, the daemon's own death included, leaves nothing behind.

pub mod attached;
pub mod attributes;
pub mod caller_terminal;
pub mod core_flag;
pub mod descriptors;
pub mod ended;
pub mod files;
pub mod fork;
pub mod groups;
pub mod image;
pub mod job_control;
pub mod memory;
pub mod outcome;
pub mod pending;
pub mod process;
pub mod pstree;
pub mod relations;
pub mod replaced;
pub mod rollback;
pub mod shmat;
pub mod signals;
pub mod time_namespace;

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::error::{Doing, Error, Kind, Result};
use crate::image::decoder::Decoder;
use crate::image::decoder::sink::Sink;
use crate::image::format::Header;
use crate::image::frame::Record;
use crate::options::RestoreOptions;
use crate::restore::image::ImageRestore;
use crate::restore::outcome::Restored;
use crate::sys::pidfd::{self, PidFd};

/// How many writes may be under way. Each is up to 1 MiB of the daemon's memory.
const AHEAD: usize = 4;

/// How long a drop waits for the end of the processes of a failed restore. Killing and reaping
/// takes milliseconds; a process in an uninterruptible sleep may take longer than any bound.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A restore in progress. It takes the bytes of images in order, cut anywhere. A drop before the
/// end of an image kills all processes of that image and waits until they have ended.
pub struct Restorer {
    /// `None` after the last write.
    to: Option<Sender<Vec<u8>>>,
    from: Receiver<WriteResult>,
    /// Bytes handed over so far.
    sent: u64,
    /// Writes without an answer so far.
    under_way: usize,
    /// Where in the input the image under way ends, as far as that is known.
    end: Option<u64>,
    restored: Vec<Restored>,
    incomplete: Option<Error>,
    failure: Option<Error>,
    /// Buffers for reuse: fresh memory would cost a page fault every 4 KiB.
    buffers: Vec<Vec<u8>>,
}

struct WriteResult {
    /// The buffer of the write.
    bytes: Vec<u8>,
    result: Result<()>,
    restored: Vec<Restored>,
    /// Where in the input the image under way ends.
    end: Option<u64>,
    /// The error, if the bytes ended here.
    incomplete: Option<Error>,
}

impl Restorer {
    /// Starts the thread; nothing else happens before the first byte.
    pub fn new(options: RestoreOptions) -> Result<Self> {
        let (to, inbox) = bounded(AHEAD);
        let (outbox, from) = bounded(AHEAD);
        std::thread::Builder::new()
            .name("restorer".into())
            .spawn(move || work(&inbox, outbox, options))
            .doing(|| "starting a restorer thread")?;
        let (restored, incomplete, failure, buffers) = Default::default();
        Ok(Self { to: Some(to), from, sent: 0, under_way: 0, end: None, restored, incomplete, failure, buffers })
    }

    /// Takes the next bytes. A write with the last byte of an image returns when its processes run.
    /// An error in earlier bytes may come a few writes later.
    ///
    /// # Errors
    /// [`Kind::Damaged`], [`Kind::KeyRejected`], [`Kind::PidTaken`], [`Kind::NotFound`],
    /// [`Kind::System`]: nothing of the image is left, and every further write gives the same
    /// error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.failed()?;
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.sent += bytes.len() as u64;
        let to = self.to.as_ref().ok_or_else(thread_has_ended)?;
        to.send(buffer).map_err(|_| thread_has_ended())?;
        self.under_way += 1;
        // Unless the image is known to go on, these bytes may be its last.
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

    /// Ends the input.
    ///
    /// # Errors
    /// The bytes end in the middle of an image, or a write has failed.
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
        // A caller that tries again at once finds the ids free, and one that ends now leaves no
        // half-made process.
        let end = Instant::now() + CLEANUP_TIMEOUT;
        while self.from.recv_deadline(end).is_ok() {}
    }
}

fn thread_has_ended() -> Error {
    Error::new(Kind::SnapshotLost, "the restorer thread has ended")
}

fn work(inbox: &Receiver<Vec<u8>>, outbox: Sender<WriteResult>, options: RestoreOptions) {
    let mut decoder = Decoder::new(options.key.as_ref());
    let mut builder = ImageSink { options, image: None, restored: Vec::new(), roots: Vec::new(), is_attached: false };
    let mut roots = Vec::new();
    while let Ok(bytes) = inbox.recv() {
        let result = decoder.push(&bytes, &mut builder);
        if result.is_err() {
            // Kills and reaps its processes.
            builder.image = None;
        }
        let restored = std::mem::take(&mut builder.restored);
        // A root that has already ended is a zombie of this thread until its pidfd is polled.
        roots.append(&mut builder.roots);
        let (end, incomplete) = (decoder.end(), decoder.finish().err());
        if outbox.send(WriteResult { bytes, result, restored, end, incomplete }).is_err() {
            break;
        }
    }
    drop(builder);
    // The end of this channel reports that nothing is left of an incomplete image.
    drop(outbox);
    pidfd::reap(roots);
}

/// Turns the events of the decoder into processes.
struct ImageSink {
    options: RestoreOptions,
    image: Option<ImageRestore>,
    restored: Vec<Restored>,
    /// Children of this thread.
    roots: Vec<PidFd>,
    /// Whether a tree is in the foreground of the caller's terminal.
    is_attached: bool,
}

impl ImageSink {
    fn image(&mut self) -> Result<&mut ImageRestore> {
        self.image.as_mut().ok_or_else(|| Error::damaged("a record outside an image"))
    }
}

impl Sink for ImageSink {
    fn header(&mut self, _header: &Header) -> Result<()> {
        if self.is_attached {
            return Err(Error::unsupported("--attach restores one image, and another one follows"));
        }
        self.image = Some(ImageRestore::new(Instant::now(), self.options.clone()));
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
        // A caller who attaches to the tree waits for its root.
        self.is_attached = restored.attached.is_some();
        let is_ours = |root: &PidFd| restored.attached.is_none() || root.pid() != restored.root;
        self.roots.extend(roots.into_iter().filter(is_ours));
        log::info!("pid {}: restored from {total} bytes in {:?}", restored.root, restored.elapsed);
        self.restored.push(restored);
        Ok(())
    }
}

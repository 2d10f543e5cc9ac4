//! Copies bytes as cat(1) does, without the cost of starting a program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The size of one read of cat(1) from a file of this mount (`st_blksize`).
pub const CAT: usize = 1 << 20;

/// The size of one read of tar(1).
pub const TAR: usize = 10 << 10;

/// One pass over a file.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The time of open(2).
    pub open: Duration,
    /// The time of all read(2) calls.
    pub read: Duration,
    /// Bytes read.
    pub bytes: u64,
}

impl Pass {
    /// The time of opening and reading.
    pub fn whole(&self) -> Duration {
        self.open + self.read
    }

    /// Bytes per second of reading.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.read.as_secs_f64()
    }

    /// Bytes per second of opening and reading.
    pub fn whole_rate(&self) -> f64 {
        self.bytes as f64 / self.whole().as_secs_f64()
    }
}

/// Drops the file's pages from the page cache.
pub fn forget(path: &Path) {
    let file = File::open(path).expect("opening the file");
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    nix::fcntl::posix_fadvise(&file, 0, 0, advice).expect("forgetting the file");
}

/// Opens a file with `flags` and reads it to its end, `unit` bytes per read.
pub fn pass(path: &Path, unit: usize, flags: i32) -> Pass {
    let mut buf = vec![1; unit];
    let begun = Instant::now();
    let mut file = File::options().read(true).custom_flags(flags).open(path).expect("opening the file");
    let open = begun.elapsed();
    let mut bytes = 0;
    loop {
        match file.read(&mut buf).expect("reading the file") {
            0 => break,
            n => bytes += n as u64,
        }
    }
    Pass { open, read: begun.elapsed() - open, bytes }
}

/// `cat from > to`. Returns the time that it takes, including the close.
pub fn copy(from: &Path, to: &Path) -> Duration {
    let mut buf = vec![1; CAT];
    let begun = Instant::now();
    let mut from = File::open(from).expect("opening the source");
    let mut to = File::create(to).expect("opening the destination");
    loop {
        match from.read(&mut buf).expect("reading") {
            0 => break,
            n => to.write_all(&buf[..n]).expect("writing"),
        }
    }
    drop(to);
    begun.elapsed()
}

//! Where the contents of pages are read from: a process, a file, or a copy in this program.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::error::{Doing, Error, Kind, Result};
use crate::image::page_runs::PageRuns;
use crate::image::page_source::PageSource;
use crate::sys::memory::{MemFile, RemotePtr};

/// Pages that a copy-on-write child does not get (MADV_DONTFORK, MADV_WIPEONFORK), copied while the
/// process is stopped.
#[derive(Debug)]
pub struct Kept {
    runs: PageRuns,
    /// Page after page in the order of `runs`.
    bytes: Vec<u8>,
}

impl Kept {
    /// Copies the pages of `runs`.
    pub fn copy(mem: &MemFile, runs: PageRuns) -> Result<Self> {
        let mut bytes = Vec::new();
        for run in runs.runs() {
            let at = bytes.len();
            bytes.resize(at + (run.pages * crate::sys::memory::PAGE) as usize, 0);
            mem.read(RemotePtr(run.address), &mut bytes[at..])?;
        }
        Ok(Self { runs, bytes })
    }

    /// The pages that it holds.
    pub fn runs(&self) -> &PageRuns {
        &self.runs
    }

    fn read(&self, address: u64, buf: &mut [u8]) -> Option<()> {
        let mut at = 0;
        for run in self.runs.runs() {
            if (run.address..run.end()).contains(&address) {
                let from = at + (address - run.address) as usize;
                buf.copy_from_slice(self.bytes.get(from..from + buf.len())?);
                return Some(());
            }
            at += (run.pages * crate::sys::memory::PAGE) as usize;
        }
        None
    }
}

/// Where the pages of a part of a snapshot are read from.
#[derive(Debug)]
pub enum MemorySource {
    /// The memory of a copy-on-write child, or of the stopped process itself, and the rseq areas in
    /// it, ascending.
    Memory(MemFile, Vec<u64>),
    /// A copy in this program.
    Kept(Kept),
    /// The contents of an object that open files share, by offset.
    File(File),
}

/// All sources of a snapshot, by the number that its layout gives them.
#[derive(Debug)]
pub struct MemorySources(pub Vec<MemorySource>);

impl MemorySources {
    /// Bytes of memory that copies take, in this program and in files of memory (memfd_create(2)).
    pub fn memory(&self) -> u64 {
        let bytes = |source: &MemorySource| match source {
            MemorySource::Memory(..) => 0,
            MemorySource::Kept(kept) => kept.bytes.len() as u64,
            MemorySource::File(file) if is_in_memory(file) => file.metadata().map_or(0, |facts| facts.blocks() * 512),
            MemorySource::File(_) => 0,
        };
        self.0.iter().map(bytes).sum()
    }
}

fn is_in_memory(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|facts| facts.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

impl PageSource for MemorySources {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        match self.0.get(source) {
            Some(MemorySource::Memory(mem, rseq)) => {
                mem.read(RemotePtr(address), buf)?;
                let near = rseq.partition_point(|area| area + RSEQ_LEN <= address);
                let end = address + buf.len() as u64;
                rseq[near..].iter().take_while(|area| **area < end).for_each(|area| zero_cpu(*area, address, buf));
                Ok(())
            }
            Some(MemorySource::File(file)) => read_file(file, address, buf),
            Some(MemorySource::Kept(kept)) => kept.read(address, buf).ok_or(()).map_err(|()| lost(address)),
            None => Err(lost(address)),
        }
    }
}

/// Bytes of struct rseq that the kernel writes (include/uapi/linux/rseq.h).
const RSEQ_LEN: u64 = 28;

/// Zeros the fields for the CPU that a thread ran on last: cpu_id_start and cpu_id, node_id and
/// mm_cid. The kernel writes them at any time, and anew at the restore. With zeros, two images of
/// an unchanged process are equal.
fn zero_cpu(area: u64, address: u64, buf: &mut [u8]) {
    for field in [0..8, 20..RSEQ_LEN] {
        for at in field {
            let byte = (area + at).checked_sub(address).and_then(|at| buf.get_mut(at as usize));
            if let Some(byte) = byte {
                *byte = 0;
            }
        }
    }
}

/// Reads from `offset`. Behind the end of the file, in its last page, are zeros.
fn read_file(file: &File, offset: u64, buf: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < buf.len() {
        let got = file.read_at(&mut buf[done..], offset + done as u64);
        match got.doing(|| format!("reading the contents of an object at {offset}"))? {
            0 => {
                buf[done..].fill(0);
                break;
            }
            n => done += n,
        }
    }
    Ok(())
}

fn lost(address: u64) -> Error {
    Error::new(Kind::SnapshotLost, format!("no page at {address:#x} was kept"))
}

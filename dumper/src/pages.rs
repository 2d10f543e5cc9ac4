//! Memory contents in bulk: which pages an image holds, where they are read from, how they are put back.

use crate::image::{PageRuns, PageSource};
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::pagemap::{Pagemap, Want, category};
use crate::task::vma::Vma;
use crate::{Error, Kind, Result};

/// Pages that a process made its own: present or swapped, neither the file's nor the zero page.
const OWN: Want = Want {
    inverted: category::FILE | category::PFNZERO,
    all: category::FILE | category::PFNZERO,
    any: category::PRESENT | category::SWAPPED,
};

/// The page set of one mapping; guard pages go into `vma.guards`.
pub fn page_set(pagemap: &Pagemap, vma: &mut Vma) -> Result<PageRuns> {
    let mut runs = PageRuns::new();
    if !vma.holds_pages() {
        return Ok(runs);
    }
    let mut guards = Vec::new();
    pagemap.scan(RemotePtr(vma.start), RemotePtr(vma.end), OWN, 0, |at, pages, is_guard| {
        if is_guard {
            guards.push((at.0, pages));
        } else {
            runs.push(at.0, pages);
        }
    })?;
    vma.guards = guards;
    Ok(runs)
}

/// Whether a mapping has any page of its own.
pub fn has_pages(pagemap: &Pagemap, vma: &Vma) -> Result<bool> {
    let mut any = false;
    pagemap.scan(RemotePtr(vma.start), RemotePtr(vma.end), OWN, 1, |_, _, is_guard| any |= !is_guard)?;
    Ok(any)
}

/// Contents that a copy-on-write child cannot have (MADV_DONTFORK, MADV_WIPEONFORK), copied while the process was stopped.
#[derive(Debug)]
pub struct Kept {
    runs: PageRuns,
    /// Page after page in the order of `runs`.
    bytes: Vec<u8>,
}

impl Kept {
    /// Copies the own pages of a mapping.
    pub fn copy(mem: &MemFile, runs: PageRuns) -> Result<Self> {
        let mut bytes = Vec::new();
        for run in runs.runs() {
            let at = bytes.len();
            bytes.resize(at + (run.pages * crate::sys::memory::PAGE) as usize, 0);
            mem.read(RemotePtr(run.address), &mut bytes[at..])?;
        }
        Ok(Self { runs, bytes })
    }

    /// Its page set.
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

/// Where the pages of a snapshot come from: source 0.. of the layout.
#[derive(Debug)]
pub enum Source {
    /// The memory of a copy-on-write child, or of the stopped process itself.
    Memory(MemFile),
    /// Kept here.
    Kept(Kept),
}

/// All sources of a snapshot.
#[derive(Debug)]
pub struct Sources(pub Vec<Source>);

impl PageSource for Sources {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        match self.0.get(source) {
            Some(Source::Memory(mem)) => mem.read(RemotePtr(address), buf),
            Some(Source::Kept(kept)) => kept.read(address, buf).ok_or(()).map_err(|()| lost(address)),
            None => Err(lost(address)),
        }
    }
}

fn lost(address: u64) -> Error {
    Error::new(Kind::SnapshotLost, format!("no page at {address:#x} was kept"))
}

//! Pages that a process still has in common with the one that forked it: stored once, with the one that comes first.
//!
//! They are told by their page frames (Documentation/admin-guide/mm/pagemap.rst). The frames looked at are those of the copy-on-write
//! children, which never run: what is one frame there was one frame at the instant. A restore makes the process by a fork of its
//! maker, whose memory is complete by then, so that the pages are common again.

use std::collections::BTreeMap;

use crate::dump::{CollectedProcess, CollectedTree};
use crate::error::Result;
use crate::image::page_runs::PageRuns;
use crate::memory::vma::Vma;
use crate::sys::memory::{PAGE, RemotePtr};
use crate::sys::pagemap::Pagemap;
use crate::sys::pid::Pid;

/// Pages compared at a time.
const AT_ONCE: u64 = 8192;

/// For each process the pages that mappings, by start, have inherited; these are taken out of the sets in `memory`.
pub fn find(
    looked: &mut CollectedTree,
    memory: &mut [Vec<PageRuns>],
    source: impl Fn(Pid) -> Pid,
) -> Result<Vec<BTreeMap<u64, PageRuns>>> {
    let mut found = Vec::new();
    for (at, sets) in memory.iter_mut().enumerate() {
        let mut inherited = BTreeMap::new();
        let (before, rest) = looked.processes.split_at_mut(at);
        let process = &mut rest[0];
        let maker =
            looked.tree.memory_owner(process.pid).and_then(|maker| before.iter().find(|earlier| earlier.pid == maker));
        if let Some(maker) = maker {
            inherited = compare(process, maker, sets, &source)?;
        }
        if let Some(told) = looked.tree.processes.iter_mut().find(|told| told.pid == process.pid) {
            told.inherits = !inherited.is_empty();
        }
        found.push(inherited);
    }
    Ok(found)
}

fn compare(
    process: &mut CollectedProcess,
    maker: &CollectedProcess,
    sets: &mut [PageRuns],
    source: impl Fn(Pid) -> Pid,
) -> Result<BTreeMap<u64, PageRuns>> {
    let mut found = BTreeMap::new();
    // Memory that is its maker's anyway; /proc does not even tell of it where the first thread has ended.
    if process.mappings.is_empty() {
        return Ok(found);
    }
    let (ours, makers) = (Pagemap::open(source(process.pid))?, Pagemap::open(source(maker.pid))?);
    for ((_, vma), runs) in process.mappings.iter_mut().zip(sets) {
        let first = maker.mappings.partition_point(|(_, other)| other.end <= vma.start);
        let common = maker.mappings[first..].iter().map(|(_, other)| other).take_while(|other| other.start < vma.end);
        let mut only = PageRuns::new();
        let mut stored = PageRuns::new();
        let mut at = vma.start;
        for other in common {
            let upto = other.end.min(vma.end);
            if !vma.is_copy_of(other) {
                continue;
            }
            each(runs, at, other.start.max(vma.start), |address, pages| {
                stored.push(address, pages);
                Ok(())
            })?;
            each(runs, other.start.max(vma.start), upto, |address, pages| {
                let (a, b) = (ours.frames(RemotePtr(address), pages)?, makers.frames(RemotePtr(address), pages)?);
                for (n, (a, b)) in a.iter().zip(&b).enumerate() {
                    let page = address + n as u64 * PAGE;
                    if a.is_some() && a == b { only.push(page, 1) } else { stored.push(page, 1) }
                }
                Ok(())
            })?;
            at = upto;
        }
        if only.is_empty() {
            continue;
        }
        each(runs, at, vma.end, |address, pages| {
            stored.push(address, pages);
            Ok(())
        })?;
        vma.pages = stored.pages();
        found.insert(vma.start, only);
        *runs = stored;
    }
    Ok(found)
}

/// The pages of `runs` in `from..upto`, some at a time.
fn each(runs: &PageRuns, from: u64, upto: u64, mut work: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut at = from;
    while let Some(data) = runs.next_data(at).filter(|data| *data < upto) {
        let end = runs.next_hole(data).min(upto).min(data + AT_ONCE * PAGE);
        work(data, (end - data) / PAGE)?;
        at = end;
    }
    Ok(())
}

impl Vma {
    /// Whether both can be one mapping in two processes, of which one was forked from the other.
    pub fn is_copy_of(&self, other: &Vma) -> bool {
        let origin = |vma: &Vma| vma.offset.wrapping_sub(vma.start);
        self.holds_pages()
            && other.holds_pages()
            && self.kind == other.kind
            && self.file == other.file
            && (self.file.is_none() || origin(self) == origin(other))
    }
}

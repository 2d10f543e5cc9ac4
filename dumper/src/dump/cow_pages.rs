//! Pages that a process still shares with the process that forked it. The image stores them once,
//! with the process that comes first.
//!
//! They are recognised by their page frames (Documentation/admin-guide/mm/pagemap.rst). The
//! compared frames are those of the copy-on-write children, which never run: one frame there was
//! one frame when the tree was stopped. A restore forks the process from its maker after the
//! maker's memory is complete, so the pages are shared again.

use crate::dump::memory::{MappingPages, ProcessMemory};
use crate::error::Result;
use crate::image::page_runs::PageRuns;
use crate::pstree::record::Tree;
use crate::sys::memory::{PAGE, RemotePtr};
use crate::sys::pagemap::Pagemap;

/// How many pages are compared at a time.
const AT_ONCE: u64 = 8192;

/// Removes inherited pages from those that are stored with a mapping, and records them as
/// inherited.
pub fn find(tree: &mut Tree, memory: &mut [ProcessMemory]) -> Result<()> {
    for at in 0..memory.len() {
        let (before, rest) = memory.split_at_mut(at);
        let process = &mut rest[0];
        let maker = tree.memory_owner(process.pid);
        let maker = maker.and_then(|maker| before.iter().find(|earlier| earlier.pid == maker));
        if let Some(maker) = maker {
            compare(process, maker)?;
        }
        let inherits = process.mappings.iter().any(|mapping| mapping.inherited.is_some());
        if let Some(record) = tree.processes.iter_mut().find(|record| record.pid == process.pid) {
            record.inherits = inherits;
        }
    }
    Ok(())
}

fn compare(process: &mut ProcessMemory, maker: &ProcessMemory) -> Result<()> {
    // The process shares its maker's memory. If the first thread has ended, /proc does not even
    // show it.
    if process.mappings.is_empty() {
        return Ok(());
    }
    let (ours, makers) = (Pagemap::open(process.source)?, Pagemap::open(maker.source)?);
    for mapping in &mut process.mappings {
        let MappingPages { vma, pages: runs, .. } = mapping;
        let first = maker.mappings.partition_point(|other| other.vma.end <= vma.start);
        let common = maker.mappings[first..].iter().map(|other| &other.vma).take_while(|other| other.start < vma.end);
        let mut inherited = PageRuns::new();
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
                    if a.is_some() && a == b { inherited.push(page, 1) } else { stored.push(page, 1) }
                }
                Ok(())
            })?;
            at = upto;
        }
        if inherited.is_empty() {
            continue;
        }
        each(runs, at, vma.end, |address, pages| {
            stored.push(address, pages);
            Ok(())
        })?;
        vma.pages = stored.pages();
        mapping.inherited = Some(inherited);
        mapping.pages = stored;
    }
    Ok(())
}

/// Calls `work` for the pages of `runs` in `from..upto`, some at a time.
fn each(runs: &PageRuns, from: u64, upto: u64, mut work: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut at = from;
    while let Some(data) = runs.next_data(at).filter(|data| *data < upto) {
        let end = runs.next_hole(data).min(upto).min(data + AT_ONCE * PAGE);
        work(data, (end - data) / PAGE)?;
        at = end;
    }
    Ok(())
}

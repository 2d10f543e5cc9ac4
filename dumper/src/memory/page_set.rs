//! Memory contents in bulk: which pages an image holds, where they are read from, how they are put back.

use crate::error::Result;
use crate::image::page_runs::PageRuns;
use crate::memory::vma::Vma;
use crate::sys::memory::RemotePtr;
use crate::sys::pagemap::{Pagemap, Want, category};

/// Pages that a process made its own: present or swapped, neither the file's nor the zero page.
const OWN: Want = Want {
    inverted: category::FILE | category::PFNZERO,
    all: category::FILE | category::PFNZERO,
    any: category::PRESENT | category::SWAPPED,
};

/// Guard pages, which are the mapping's own even where its pages are not.
const GUARDS: Want = Want { inverted: 0, all: category::GUARD, any: 0 };

/// The page set of one mapping; guard pages go into `vma.guards`.
pub fn page_set(pagemap: &Pagemap, vma: &mut Vma) -> Result<PageRuns> {
    let mut runs = PageRuns::new();
    let mut guards = Vec::new();
    let want = if vma.holds_pages() { OWN } else { GUARDS };
    pagemap.scan(RemotePtr(vma.start), RemotePtr(vma.end), want, 0, |at, pages, is_guard| {
        if is_guard {
            guards.push((at.0, pages));
        } else {
            runs.push(at.0, pages);
        }
    })?;
    vma.guards = guards;
    Ok(runs)
}

/// Whether a mapping has any page of its own, or guards one.
pub fn has_pages(pagemap: &Pagemap, vma: &Vma) -> Result<bool> {
    let mut any = false;
    pagemap.scan(RemotePtr(vma.start), RemotePtr(vma.end), OWN, 1, |_, _, _| any = true)?;
    Ok(any)
}

//! Which pages of a mapping an image holds.

use crate::error::Result;
use crate::image::page_runs::PageRuns;
use crate::memory::vma::Vma;
use crate::sys::memory::RemotePtr;
use crate::sys::pagemap::{Pagemap, Want, category};

/// Pages that a process has made its own. They are present or swapped, and neither a page of the
/// file nor the zero page.
const OWN: Want = Want {
    inverted: category::FILE | category::PFNZERO,
    all: category::FILE | category::PFNZERO,
    any: category::PRESENT | category::SWAPPED,
};

/// Guard pages. A mapping without pages in the image can have them too.
const GUARDS: Want = Want { inverted: 0, all: category::GUARD, any: 0 };

/// The pages of one mapping. Its guard pages go into `vma.guards`.
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

/// Whether a mapping has a page of its own.
pub fn has_pages(pagemap: &Pagemap, vma: &Vma) -> Result<bool> {
    let mut any = false;
    pagemap.scan(RemotePtr(vma.start), RemotePtr(vma.end), OWN, 1, |_, _, _| any = true)?;
    Ok(any)
}

//! Memory: flags and pages of every mapping, and what a copy-on-write child lacks.

use std::collections::BTreeMap;

use crate::dump::{CollectedMapping, CollectedProcess};
use crate::error::{Error, Kind, Result};
use crate::freeze::entry::Entry;
use crate::image::page_runs::PageRuns;
use crate::memory::overlaid::Overlaid;
use crate::memory::page_set;
use crate::memory::source::Kept;
use crate::memory::vm_flags::VmFlags;
use crate::memory::vma::{self, Vma};
use crate::sys::memory::PAGE;
use crate::sys::pagemap::Pagemap;
use crate::sys::pid::Pid;
use crate::sys::proc::maps;
use crate::sys::proc::status::Fields;

/// How many bytes the daemon may keep itself. A process with more is read while it is stopped.
pub const KEPT_MOST: u64 = 24 << 20;

/// From this size of address space on, flags and pages are read in parallel. The kernel walks all
/// page tables for each of the two, and a thread costs as much as a walk of some 50 MiB.
const SIDE_BY_SIDE: u64 = 64 << 20;

/// Attachments of System V shared memory that fork(2) would copy. The kernel counts each attachment
/// and records its time and its last process (shm_open and shm_close in ipc/shm.c), so a copy of
/// the process must not have them.
pub fn attachments(process: &mut CollectedProcess) -> Result<Vec<(u64, u64)>> {
    let vmas = process.mappings.iter_mut().map(|mapping| &mut mapping.vma);
    let mut found: Vec<&mut Vma> = vmas.filter(|vma| vma.kind == vma::Type::IpcShm).collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let flags = maps::vm_flags(process.pid)?;
    for vma in &mut found {
        vma.add_flags(&flags)?;
    }
    Ok(found.iter().filter(|vma| !vma.is_not_forked()).map(|vma| (vma.start, vma.end)).collect())
}

/// Copies what fork does not copy: contents and guard pages. It finds them by comparing the pages
/// of the process with the pages of the child.
///
/// `budget` is how many bytes the daemon may still keep, for the whole tree.
pub fn keep_what_fork_drops(process: &mut CollectedProcess, entry: &Entry, child: Pid, budget: &mut u64) -> Result<()> {
    let childs: BTreeMap<u64, u64> = maps::maps(child)?.into_iter().map(|m| (m.start, m.end)).collect();
    let (ours, theirs) = (Pagemap::open(entry.pid)?, Pagemap::open(child)?);
    let mut flags = None;
    for CollectedMapping { vma, kept, .. } in &mut process.mappings {
        if vma.kind == vma::Type::IpcShm {
            *kept = Some(Kept::copy(&entry.mem, page_set::page_set(&ours, vma)?)?);
            continue;
        }
        let missing = childs.get(&vma.start) != Some(&vma.end);
        let private = vma.kind == vma::Type::Anon || missing;
        if !private || !(missing || page_set::has_pages(&ours, vma)? && !page_set::has_pages(&theirs, vma)?) {
            continue;
        }
        // The flags can be read from the process only while it is stopped. This case is rare, so it
        // reads smaps here.
        let flags = match &mut flags {
            Some(flags) => flags,
            none => none.insert(maps::vm_flags(entry.pid)?),
        };
        vma.add_flags(flags)?;
        let mut runs = page_set::page_set(&ours, vma)?;
        if missing {
            runs = Overlaid::of(entry.pid, &ours)?.pages(vma, runs)?;
        }
        let too_large = || Error::os("memory that fork does not copy is too large to keep", libc::ENOMEM);
        *budget = budget.checked_sub(runs.pages() * PAGE).ok_or_else(too_large)?;
        *kept = Some(Kept::copy(&entry.mem, runs)?);
    }
    Ok(())
}

/// VmFlags of the stopped process itself, if it has locked memory (mlock(2)). A child of fork does
/// not inherit that.
pub fn mlock_flags(pid: Pid) -> Result<Option<VmFlags>> {
    let locked = Fields::read(&format!("/proc/{pid}/status"))?.number("VmLck") != 0;
    locked.then(|| maps::vm_flags(pid)).transpose()
}

/// The memory of one process, as the image holds it.
pub struct ProcessMemory {
    /// The process.
    pub pid: Pid,
    /// The process that memory is read from: a copy-on-write child, or a thread of the stopped
    /// process.
    pub source: Pid,
    /// Addresses of its threads' rseq areas, ascending.
    pub rseq: Vec<u64>,
    /// Its mappings, ascending.
    pub mappings: Vec<MappingPages>,
}

/// One mapping, and its pages.
pub struct MappingPages {
    /// Its record.
    pub vma: Vma,
    /// Its contents, if they are not read from the source.
    pub kept: Option<Kept>,
    /// The pages that the image stores with this mapping.
    pub pages: PageRuns,
    /// The pages that the image stores with the process that forked this one.
    pub inherited: Option<PageRuns>,
}

impl ProcessMemory {
    /// Reads flags and pages of every mapping from the address space of `source`.
    pub fn find(process: CollectedProcess, source: Pid) -> Result<Self> {
        let CollectedProcess { pid, mappings, rseq, mlock_flags, .. } = process;
        let mappings = find_pages(mappings, source, mlock_flags.as_ref())?;
        Ok(Self { pid, source, rseq, mappings })
    }
}

fn find_pages(
    mappings: Vec<CollectedMapping>,
    source: Pid,
    mlock_flags: Option<&VmFlags>,
) -> Result<Vec<MappingPages>> {
    if mappings.is_empty() {
        return Ok(Vec::new());
    }
    let pagemap = Pagemap::open(source)?;
    let mut overlaid = Overlaid::of(source, &pagemap)?;
    let read_flags = || maps::vm_flags(source);
    let large = mappings.iter().map(|mapping| mapping.vma.len()).sum::<u64>() > SIDE_BY_SIDE;
    let (flags, found) = std::thread::scope(|scope| {
        let flags = large.then(|| scope.spawn(read_flags));
        let pages = |CollectedMapping { mut vma, kept, .. }| {
            let pages = match &kept {
                Some(kept) => kept.runs().clone(),
                None => {
                    let own = page_set::page_set(&pagemap, &mut vma)?;
                    overlaid.pages(&vma, own)?
                }
            };
            Ok(MappingPages { vma, kept, pages, inherited: None })
        };
        let found: Result<Vec<_>> = mappings.into_iter().map(pages).collect();
        (flags.map(|thread| thread.join()), found)
    });
    let gone = |_| Error::new(Kind::SnapshotLost, format!("pid {source}: the thread that read its flags has ended"));
    let flags = flags.map_or_else(read_flags, |joined| joined.map_err(gone)?)?;
    let mut found = found?;
    for MappingPages { vma, pages, .. } in &mut found {
        vma.add_flags(&flags)?;
        if let Some(locked) = mlock_flags {
            vma.add_flags(locked)?;
        }
        if !vma.holds_pages() {
            *pages = PageRuns::new();
        }
        vma.pages = pages.pages();
    }
    Ok(found)
}

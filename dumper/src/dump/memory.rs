//! Memory: flags and pages of every mapping, and what a copy-on-write child lacks.

use std::collections::BTreeMap;

use crate::dump::CollectedProcess;
use crate::error::{Error, Kind, Result};
use crate::freeze::entry::Entry;
use crate::image::page_runs::PageRuns;
use crate::memory::page_set;
use crate::memory::source::Kept;
use crate::memory::vm_flags::VmFlags;
use crate::memory::vma::{self, Vma};
use crate::sys::memory::PAGE;
use crate::sys::pagemap::Pagemap;
use crate::sys::pid::Pid;
use crate::sys::proc::maps::{self, Mapping};
use crate::sys::proc::status::Fields;

/// Attachments of System V shared memory that fork(2) would copy. The kernel counts and times each (shm_open and shm_close in ipc/shm.c),
/// and remembers who was the last: a copy of the process must not have them.
pub fn attachments(looked: &mut CollectedProcess) -> Result<Vec<(u64, u64)>> {
    let mut found: Vec<&mut Vma> = Vec::new();
    found.extend(looked.mappings.iter_mut().map(|(_, vma)| vma).filter(|vma| vma.kind == vma::Type::IpcShm));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let flags = maps::vm_flags(looked.pid)?;
    for vma in &mut found {
        vma.add_flags(&flags)?;
    }
    Ok(found.iter().filter(|vma| !vma.is_not_forked()).map(|vma| (vma.start, vma.end)).collect())
}

/// What fork does not copy, contents and guard pages: known by comparing what has pages here with what has pages in the child.
///
/// `budget`: bytes that may be kept in the daemon, for the whole tree.
pub fn keep_what_fork_drops(
    looked: &mut CollectedProcess,
    door: &Entry,
    child: Pid,
    budget: &mut u64,
) -> Result<BTreeMap<u64, Kept>> {
    let childs: BTreeMap<u64, u64> = maps::maps(child)?.into_iter().map(|m| (m.start, m.end)).collect();
    let (ours, theirs) = (Pagemap::open(door.pid)?, Pagemap::open(child)?);
    let mut kept = BTreeMap::new();
    let mut flags = None;
    for (_, vma) in &mut looked.mappings {
        if vma.kind == vma::Type::IpcShm {
            kept.insert(vma.start, Kept::copy(&door.mem, page_set::page_set(&ours, vma)?)?);
            continue;
        }
        let missing = childs.get(&vma.start) != Some(&vma.end);
        let private = vma.kind == vma::Type::Anon || missing;
        if !private || !(missing || page_set::has_pages(&ours, vma)? && !page_set::has_pages(&theirs, vma)?) {
            continue;
        }
        // Its flags can be asked of the process only while it is stopped; rare enough to pay for smaps here.
        let flags = match &mut flags {
            Some(flags) => flags,
            none => none.insert(maps::vm_flags(door.pid)?),
        };
        vma.add_flags(flags)?;
        let runs = page_set::page_set(&ours, vma)?;
        let too_large = || Error::os("memory that fork does not copy is too large to keep", libc::ENOMEM);
        *budget = budget.checked_sub(runs.pages() * PAGE).ok_or_else(too_large)?;
        kept.insert(vma.start, Kept::copy(&door.mem, runs)?);
    }
    Ok(kept)
}

/// Bytes that may be kept in the daemon; a process with more is read while it is stopped.
pub const KEPT_MOST: u64 = 24 << 20;

/// Bytes of address space from which on flags and pages are looked for at the same time: the kernel walks all page tables for
/// either, and a thread costs as much as the walk of some 50 MiB.
pub const SIDE_BY_SIDE: u64 = 64 << 20;

/// Flags and pages of every mapping of a process, from the address space of `source` (a child, or the stopped process).
pub fn complete<'k>(
    mappings: &mut [(Mapping, Vma)],
    source: Pid,
    kept: impl Fn(u64) -> Option<&'k PageRuns>,
    locked: Option<&VmFlags>,
) -> Result<Vec<PageRuns>> {
    if mappings.is_empty() {
        return Ok(Vec::new());
    }
    let pagemap = Pagemap::open(source)?;
    let read_flags = || maps::vm_flags(source);
    let large = mappings.iter().map(|(_, vma)| vma.len()).sum::<u64>() > SIDE_BY_SIDE;
    let (flags, sets) = std::thread::scope(|scope| {
        let flags = large.then(|| scope.spawn(read_flags));
        let sets: Result<Vec<_>> = mappings
            .iter_mut()
            .map(|(_, vma)| match kept(vma.start) {
                Some(runs) => Ok(runs.clone()),
                None => page_set::page_set(&pagemap, vma),
            })
            .collect();
        (flags.map(|thread| thread.join()), sets)
    });
    let gone = |_| Error::new(Kind::SnapshotLost, format!("pid {source}: the thread that read its flags has ended"));
    let flags = flags.map_or_else(read_flags, |joined| joined.map_err(gone)?)?;
    let mut sets = sets?;
    for ((_, vma), runs) in mappings.iter_mut().zip(&mut sets) {
        vma.add_flags(&flags)?;
        if let Some(locked) = locked {
            vma.add_flags(locked)?;
        }
        if !vma.holds_pages() {
            *runs = PageRuns::new();
        }
        vma.pages = runs.pages();
    }
    Ok(sets)
}

/// VmFlags of the stopped process itself, where memory is locked: a child of fork does not inherit that.
pub fn locked_flags(pid: Pid) -> Result<Option<VmFlags>> {
    let locked = Fields::read(&format!("/proc/{pid}/status"))?.number("VmLck") != 0;
    locked.then(|| maps::vm_flags(pid)).transpose()
}

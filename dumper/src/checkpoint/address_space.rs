//! The address spaces of an image: which mappings each process has, and where each of their pages
//! is stored.
//!
//! A page is stored with the mapping itself, with the process that forked its process, or with a
//! mapped file without a name. A process that shares the memory of its maker has its maker's
//! mappings.

use std::collections::BTreeMap;

use crate::error::{Context, Error, Kind, Result};
use crate::image::page_runs::{PageRuns, Run};
use crate::image::page_source::PageSource;
use crate::image::record_set::{RecordSet, RecordView};
use crate::kind::record_sort::{Role, Shown};
use crate::memory::vma::{self, Type, Vma};
use crate::pstree::record::{Share, Tree};
use crate::records;
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;

/// All address spaces.
pub struct AddressSpaces {
    of_whom: String,
    spaces: BTreeMap<Pid, ProcessSpace>,
}

/// The address space of one process.
#[derive(Default)]
struct ProcessSpace {
    areas: Vec<Area>,
    /// The process that it has inherited pages from.
    maker: Option<Pid>,
    /// The process that its memory belongs to, if that is another one.
    lender: Option<Pid>,
}

/// One mapping.
pub struct Area {
    /// The mapping as the dump recorded it.
    pub vma: Vma,
    /// All its pages that the image holds, by address.
    pub runs: PageRuns,
    /// Where these pages are stored. An earlier layer hides a later one.
    layers: Vec<Layer>,
}

/// Pages that are stored in one place.
struct Layer {
    /// The addresses of the pages in the process.
    runs: PageRuns,
    home: Home,
}

#[derive(Clone, Copy)]
enum Home {
    /// A page list, and the address in the process minus the address in the list's source.
    Source(usize, u64),
    /// The maker's memory at the same address.
    Maker,
}

/// What is stored at an address, and the address where that ends.
enum MemoryPiece {
    /// In a source: its number, the address there, and the end of the piece.
    Stored(usize, u64, u64),
    Hole(u64),
}

impl AddressSpaces {
    /// Reads the `records` of the processes in `tree`. `of_whom` names the image in errors.
    pub fn of(of_whom: &str, tree: &Tree, records: &dyn RecordSet) -> Result<Self> {
        let mut spaces = BTreeMap::new();
        for process in tree.processes.iter().filter(|process| !process.threads.is_empty()) {
            let maker = tree.memory_owner(process.pid);
            let lender = maker.filter(|_| process.shares(Share::Vm));
            let maker = maker.filter(|_| process.inherits);
            spaces.insert(process.pid, ProcessSpace { areas: Vec::new(), maker, lender });
        }
        let contents = contents(records).on(|| of_whom)?;
        for record in records.records().filter(|record| record.tag == vma::TAG) {
            let area = Area::of(&record, &contents).on(|| of_whom)?;
            let pid = area.vma.tid;
            let strange = || Error::damaged(format!("{of_whom}: a mapping of pid {pid}, which is not there"));
            let space: &mut ProcessSpace = spaces.get_mut(&pid).ok_or_else(strange)?;
            if space.areas.last().is_some_and(|last| last.vma.end > area.vma.start) {
                let Vma { start, end, .. } = area.vma;
                return Err(Error::damaged(format!("{of_whom}: mapping {start:x}-{end:x} of pid {pid} overlaps")));
            }
            space.areas.push(area);
        }
        Ok(Self { of_whom: of_whom.to_owned(), spaces })
    }

    /// Refuses images in which a maker lacks pages that another process inherits from it.
    pub fn check(&self) -> Result<()> {
        for (pid, space) in &self.spaces {
            for (at, pages) in space.areas.iter().flat_map(|area| &area.vma.inherited) {
                let (mut at, end) = (*at, at + pages * PAGE);
                while at < end {
                    at = match self.piece(*pid, at)? {
                        MemoryPiece::Stored(_, _, upto) | MemoryPiece::Hole(upto) => upto,
                    };
                }
            }
        }
        Ok(())
    }

    fn space(&self, pid: Pid) -> Result<(&ProcessSpace, Pid)> {
        let gone = || Error::new(Kind::NoProcess, format!("pid {pid} is not in the image of {}", self.of_whom));
        let space = self.spaces.get(&pid).ok_or_else(gone)?;
        match space.lender {
            // Only the lender's own mappings are recorded, and a lender borrows no memory itself.
            Some(lender) => Ok((self.spaces.get(&lender).ok_or_else(gone)?, lender)),
            None => Ok((space, pid)),
        }
    }

    /// The mappings of a process, ascending.
    pub fn of_process(&self, pid: Pid) -> Result<&[Area]> {
        Ok(&self.space(pid)?.0.areas)
    }

    /// The mapping that starts at `start`.
    pub fn area(&self, pid: Pid, start: u64) -> Result<&Area> {
        let areas = self.of_process(pid)?;
        let found = areas.binary_search_by_key(&start, |area| area.vma.start).ok().and_then(|at| areas.get(at));
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("pid {pid} has no mapping at {start:x}")))
    }

    /// The stored pages of the mapping around `address`.
    pub fn runs_at(&self, pid: Pid, address: u64) -> Result<&PageRuns> {
        let areas = self.of_process(pid)?;
        let behind = areas.partition_point(|area| area.vma.start <= address);
        let area = behind.checked_sub(1).map(|at| &areas[at]).filter(|area| address < area.vma.end);
        let missing = || Error::new(Kind::NotFound, format!("pid {pid} has no mapping at {address:x}"));
        area.map(|area| &area.runs).ok_or_else(missing)
    }

    /// Reads memory of a process from `address` on, all within one mapping. Reads zeros where
    /// nothing is stored.
    pub fn read(&self, pages: &dyn PageSource, pid: Pid, address: u64, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        let mut at = address;
        while !rest.is_empty() {
            let piece = self.piece(pid, at)?;
            let (MemoryPiece::Stored(.., upto) | MemoryPiece::Hole(upto)) = piece;
            let (part, behind) = rest.split_at_mut((upto - at).min(rest.len() as u64) as usize);
            match piece {
                MemoryPiece::Stored(source, there, _) => pages.read(source, there, part)?,
                MemoryPiece::Hole(_) => part.fill(0),
            }
            at += part.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    /// What is stored at `address`. The search goes up from maker to maker. It ends, because a
    /// maker comes before the processes that it made.
    fn piece(&self, pid: Pid, address: u64) -> Result<MemoryPiece> {
        let (mut space, mut whose) = self.space(pid)?;
        let mut end = u64::MAX;
        let lost = |whose: Pid| {
            Error::damaged(format!("{}: pid {whose} lacks pages inherited from it at {address:x}", self.of_whom))
        };
        let mut inherited = false;
        loop {
            let behind = space.areas.partition_point(|area| area.vma.start <= address);
            let area = behind.checked_sub(1).map(|at| &space.areas[at]).filter(|area| address < area.vma.end);
            let Some(area) = area else {
                let told = Error::new(Kind::NotFound, format!("pid {whose} has no mapping at {address:x}"));
                return Err(if inherited { lost(whose) } else { told });
            };
            end = end.min(area.vma.end);
            let mut found = None;
            for layer in &area.layers {
                if layer.runs.contains(address) {
                    end = end.min(layer.runs.next_hole(address));
                    found = Some(layer.home);
                    break;
                }
                end = end.min(layer.runs.next_data(address).unwrap_or(u64::MAX));
            }
            match found {
                Some(Home::Source(source, shift)) => {
                    return Ok(MemoryPiece::Stored(source, address.wrapping_sub(shift), end));
                }
                None if inherited => return Err(lost(whose)),
                None => return Ok(MemoryPiece::Hole(end)),
                Some(Home::Maker) => {
                    whose = space.maker.ok_or_else(|| lost(whose))?;
                    (space, whose) = self.space(whose)?;
                    inherited = true;
                }
            }
        }
    }
}

/// The page list of each open file with contents (files without a name, shared memory), by id.
fn contents(set: &dyn RecordSet) -> Result<BTreeMap<u32, (usize, &PageRuns)>> {
    let (mut objects, mut files) = (BTreeMap::new(), BTreeMap::new());
    for record in set.records() {
        let Some(sort) = records::sort(record.tag) else { continue };
        if !matches!(sort.role, Role::Object | Role::OpenFile) {
            continue;
        }
        match ((sort.show)(&record)?, record.pages) {
            (Shown::Object { id, .. }, Some(pages)) => {
                objects.insert(id, pages);
            }
            (Shown::OpenFile(file), _) => {
                files.insert(file.id, file.object);
            }
            _ => {}
        }
    }
    let contents = |object: Option<u32>| objects.get(&object?).copied();
    Ok(files.into_iter().filter_map(|(id, object)| Some((id, contents(object)?))).collect())
}

impl Area {
    fn of(record: &RecordView<'_>, contents: &BTreeMap<u32, (usize, &PageRuns)>) -> Result<Self> {
        let mut vma = Vma::parse(&record.to_record())?;
        let Vma { start, end, .. } = vma;
        let mut layers = Vec::new();
        if let Some((source, runs)) = record.pages.filter(|(_, runs)| !runs.is_empty()) {
            if runs.runs().any(|run| run.address < start || run.end() > end) {
                return Err(Error::damaged(format!("mapping {start:x}-{end:x} with pages outside")));
            }
            layers.push(Layer { runs: runs.clone(), home: Home::Source(source, 0) });
        }
        if !vma.inherited.is_empty() {
            let mut runs = PageRuns::new();
            vma.inherited.iter().for_each(|(at, pages)| runs.push(*at, *pages));
            layers.push(Layer { runs, home: Home::Maker });
        }
        // Droppable memory belongs to no file, even if the mapping names one.
        if let Some((source, runs)) = vma.file.and_then(|file| contents.get(&file)).filter(|_| vma.kind != Type::Anon) {
            let runs = mapped(runs, vma.offset, start, end);
            layers.push(Layer { runs, home: Home::Source(*source, start.wrapping_sub(vma.offset)) });
        }
        // There may be very many mappings.
        layers.shrink_to_fit();
        vma.flags.shrink_to_fit();
        let mut all = layers.iter().map(|layer| &layer.runs);
        let first = all.next().cloned().unwrap_or_default();
        let runs = all.fold(first, |runs, more| runs.union(more));
        Ok(Self { vma, runs, layers })
    }
}

/// The pages of a file, given by offset, as they appear in a mapping that starts at `offset`.
fn mapped(runs: &PageRuns, offset: u64, start: u64, end: u64) -> PageRuns {
    let mut shown = PageRuns::new();
    for Run { address, pages } in runs.runs() {
        let upto = address.saturating_add(pages * PAGE).min(offset.saturating_add(end - start));
        let from = address.max(offset);
        if from < upto {
            shown.push(start + (from - offset), (upto - from) / PAGE);
        }
    }
    shown
}

#[cfg(test)]
mod tests;

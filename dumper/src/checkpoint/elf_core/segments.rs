//! The memory of a core file. Each mapping is one PT_LOAD, or several, because a segment has
//! contents only from its beginning up to one point.
//!
//! The contents are those that the kernel would write, by the process's own coredump_filter
//! (core(5)) and MADV_DONTDUMP, as far as the image holds them. There are three differences:
//! - Of a private mapping of a file the kernel writes either every page or none. This file leaves
//!   out pages that the process has not changed: debuggers read them from the file, which NT_FILE
//!   names. Exception: the file has no name any more, and the image has its contents.
//! - Holes of more than 1 MiB are left out as well. With them the file would be as large as the
//!   address space that is only reserved.
//! - The vDSO is included if this kernel has the same one. Its data pages are not included.

use object::elf;

use crate::checkpoint::address_space::Area;
use crate::checkpoint::elf_core::notes::CoreProcess;
use crate::checkpoint::view::View;
use crate::error::Result;
use crate::file::regular;
use crate::image::page_runs::PageRuns;
use crate::memory::vdso::Vdso;
use crate::memory::vma::{Type, Vma};
use crate::sys::memory::PAGE;

/// The largest hole inside the contents of a segment.
pub const HOLE_MOST: u64 = 1 << 20;

/// Bits of coredump_filter, MMF_DUMP_* of include/linux/mm_types.h.
mod filter {
    pub const ANON_PRIVATE: u64 = 1 << 0;
    pub const ANON_SHARED: u64 = 1 << 1;
    pub const ELF_HEADERS: u64 = 1 << 4;
}

/// One PT_LOAD.
pub struct ElfSegment {
    /// First address.
    pub address: u64,
    /// Bytes of memory.
    pub len: u64,
    /// How many of these bytes are in the file, from the first one on.
    pub filled: u64,
    /// How the memory may be used.
    pub flags: elf::ProgramFlags,
    /// What the file holds for it.
    pub content: Content,
}

/// The contents of a segment.
pub enum Content {
    /// Memory of the process.
    Memory,
    /// The bytes given here.
    Bytes(Vec<u8>),
}

/// All segments of a process, ascending.
pub fn of(view: &View, process: &CoreProcess<'_>) -> Result<Vec<ElfSegment>> {
    let filter = process.coredump_filter()?;
    let mut segments = Vec::new();
    for area in view.memory()?.of_process(process.pid)? {
        match header_page(area, filter, process) {
            Some(page) => segments.extend(with_bytes(area, page)),
            None => segments.extend(of_area(area, filter)),
        }
    }
    segments.extend(of_vdso(&process.vdso()?));
    segments.sort_by_key(|segment| segment.address);
    Ok(segments)
}

/// Whether the filter asks for the contents of a mapping.
fn is_wanted(vma: &Vma, filter: u64) -> bool {
    let bit = if vma.kind.is_shared() { filter::ANON_SHARED } else { filter::ANON_PRIVATE };
    filter & bit != 0 && !vma.has("dd")
}

fn of_area(area: &Area, filter: u64) -> Vec<ElfSegment> {
    let nothing = PageRuns::new();
    let runs = if is_wanted(&area.vma, filter) { &area.runs } else { &nothing };
    // Missing pages read as zero, except those of a mapped file.
    let hole_most = if area.vma.kind == Type::File { 0 } else { HOLE_MOST };
    cut(area.vma.start, area.vma.end, runs, hole_most, flags(area.vma.prot))
}

fn cut(start: u64, end: u64, runs: &PageRuns, hole_most: u64, flags: elf::ProgramFlags) -> Vec<ElfSegment> {
    let segment = |address| ElfSegment { address, len: 0, filled: 0, flags, content: Content::Memory };
    let mut segments = vec![segment(start)];
    for run in runs.runs() {
        if let Some(last) = segments.last_mut() {
            let filled = last.address + last.filled;
            if run.address - filled <= hole_most {
                last.filled = run.end() - last.address;
                continue;
            }
            last.len = run.address - last.address;
        }
        segments.push(ElfSegment { filled: run.end() - run.address, ..segment(run.address) });
    }
    if let Some(last) = segments.last_mut() {
        last.len = end - last.address;
        if last.filled > 0 && last.len - last.filled <= hole_most {
            last.filled = last.len;
        }
    }
    segments
}

/// The first page of a mapped ELF file, if the file is still the one that was mapped. A debugger
/// finds the build-id in this page, and so knows the file. If the image itself holds the page, it
/// comes from the image.
fn header_page(area: &Area, filter: u64, process: &CoreProcess<'_>) -> Option<Vec<u8>> {
    let vma = &area.vma;
    let readable = vma.prot & libc::PROT_READ != 0;
    let asked = filter & filter::ELF_HEADERS != 0 && !vma.has("dd");
    if vma.kind != Type::File || vma.offset != 0 || !readable || !asked || !area.runs.is_empty() {
        return None;
    }
    let record = process.file(vma.file?)?;
    regular::beginning(record, vma.ino, PAGE as usize).filter(|page| page.starts_with(&elf::ELFMAG))
}

fn with_bytes(area: &Area, bytes: Vec<u8>) -> Option<ElfSegment> {
    let Vma { start, end, prot, .. } = area.vma;
    let filled = bytes.len() as u64;
    Some(ElfSegment { address: start, len: end - start, filled, flags: flags(prot), content: Content::Bytes(bytes) })
}

fn of_vdso(vdso: &Vdso) -> Vec<ElfSegment> {
    let code = vdso.code();
    let parts = vdso.parts.iter().filter(|(_, start, end)| start < end);
    let segment = |(name, start, end): &(String, u64, u64)| {
        let is_code = name == "[vdso]";
        let prot = if is_code { libc::PROT_READ | libc::PROT_EXEC } else { libc::PROT_READ };
        let bytes = code.clone().filter(|code| is_code && code.len() as u64 == end - start).unwrap_or_default();
        let (filled, flags) = (bytes.len() as u64, flags(prot));
        ElfSegment { address: *start, len: end - start, filled, flags, content: Content::Bytes(bytes) }
    };
    parts.map(segment).collect()
}

fn flags(prot: i32) -> elf::ProgramFlags {
    let flag = |bit: i32, flag: elf::ProgramFlags| if prot & bit != 0 { flag.0 } else { 0 };
    elf::ProgramFlags(
        flag(libc::PROT_READ, elf::PF_R) | flag(libc::PROT_WRITE, elf::PF_W) | flag(libc::PROT_EXEC, elf::PF_X),
    )
}

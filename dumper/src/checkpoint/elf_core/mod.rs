//! One process of a checkpoint as an ELF core file (core(5), elf(5)) for gdb and similar programs.
//! It can be read at any offset and is never whole in memory.
//!
//! ```text
//!   ELF header | program headers | notes | to 4096 | contents of the segments
//!   | section header 0 (only with PN_XNUM)
//! ```
//!
//! The layout is the kernel's (fs/binfmt_elf.c). [`segments`] makes the memory, [`notes`] the rest.

pub mod notes;
pub mod segments;

use std::sync::Arc;

use object::elf;
use object::endian::{LittleEndian as LE, U16, U32, U64};
use object::pod::bytes_of;

use crate::checkpoint::elf_core::segments::{Content, ElfSegment};
use crate::checkpoint::view::View;
use crate::error::Result;
use crate::image::format::ARCH;
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;

/// Bytes of the ELF header.
const HEADER: usize = size_of::<elf::FileHeader64<LE>>();
/// Bytes of a program header.
const PROGRAM_HEADER: usize = size_of::<elf::ProgramHeader64<LE>>();
/// Bytes of a section header.
const SECTION_HEADER: usize = size_of::<elf::SectionHeader64<LE>>();

/// A core file. Its length and everything but memory are decided when it is made.
pub struct Core {
    view: Arc<View>,
    pid: Pid,
    /// The bytes before the first contents.
    head: Vec<u8>,
    /// The segments with contents, ascending.
    pieces: Vec<CorePiece>,
    /// The bytes behind the contents.
    tail: Vec<u8>,
    len: u64,
}

/// The contents of a segment.
struct CorePiece {
    /// Offset in the file.
    at: u64,
    segment: ElfSegment,
}

impl Core {
    /// The core file of `pid` at the instant of `view`.
    ///
    /// # Errors
    /// [`crate::error::Kind::NoProcess`]: the process is not in the image, or has ended.
    /// [`crate::error::Kind::Damaged`]: records of the process are missing.
    pub fn new(view: &Arc<View>, pid: Pid) -> Result<Self> {
        let process = notes::CoreProcess::find(view, pid)?;
        let segments = segments::of(view, &process)?;
        let notes = notes::encode(view, &process)?;
        let mut head = vec![0; HEADER];
        let headers = segments.len() + 1;
        let notes_at = HEADER + headers * PROGRAM_HEADER;
        let len = notes.len() as u64;
        head.extend(bytes_of(&program_header(elf::PT_NOTE, elf::ProgramFlags(0), notes_at as u64, 0, len, 0, 4)));
        let mut at = (notes_at as u64 + len).next_multiple_of(PAGE);
        let mut pieces = Vec::new();
        for segment in segments {
            let (from, len) = (segment.address, segment.filled);
            head.extend(bytes_of(&program_header(elf::PT_LOAD, segment.flags, at, from, len, segment.len, PAGE)));
            if len > 0 {
                pieces.push(CorePiece { at, segment });
            }
            at += len;
        }
        head.extend(notes);
        head.resize(head.len().next_multiple_of(PAGE as usize), 0);
        // There are more headers than the field can count. Section header 0 then holds the count
        // (`fill_extnum_info`).
        let tail = if headers < usize::from(elf::PN_XNUM) { Vec::new() } else { section_header(headers) };
        let sections_at = if tail.is_empty() { 0 } else { at };
        head[..HEADER].copy_from_slice(bytes_of(&file_header(headers, sections_at)));
        Ok(Self { view: Arc::clone(view), pid, head, pieces, len: at + tail.len() as u64, tail })
    }

    /// Its exact length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes. It always has some.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of its bytes are not in holes.
    pub fn stored(&self) -> Result<u64> {
        let mut stored = (self.head.len() + self.tail.len()) as u64;
        for CorePiece { segment, .. } in &self.pieces {
            let mut at = segment.address;
            while let Some(data) = self.data(segment, at)? {
                at = self.hole(segment, data)?;
                stored += at - data;
            }
        }
        Ok(stored)
    }

    /// Fills `buf` from `offset` on. Reads fewer bytes only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let wanted = (buf.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        let mut rest = &mut buf[..wanted];
        let mut at = offset;
        while !rest.is_empty() {
            let (start, end, part) = self.part(at);
            let (place, behind) = rest.split_at_mut((end - at).min(rest.len() as u64) as usize);
            let from = at - start;
            match part {
                CorePart::Bytes(bytes) => place.copy_from_slice(&bytes[from as usize..from as usize + place.len()]),
                CorePart::Segment(segment) => self.view.read_memory(self.pid, segment.address + from, place)?,
            }
            at += place.len() as u64;
            rest = behind;
        }
        Ok(wanted)
    }

    /// SEEK_DATA (`data`) or SEEK_HOLE from `offset` on, lseek(2). `None` means ENXIO.
    pub fn seek(&self, offset: u64, data: bool) -> Result<Option<u64>> {
        let mut at = offset;
        while at < self.len {
            let (start, end, part) = self.part(at);
            let found = match part {
                CorePart::Bytes(_) => data.then_some(at),
                CorePart::Segment(segment) => {
                    let address = segment.address + (at - start);
                    let found = if data {
                        self.data(segment, address)?
                    } else {
                        Some(self.hole(segment, address)?).filter(|hole| hole - segment.address < end - start)
                    };
                    found.map(|found| start + (found - segment.address))
                }
            };
            if found.is_some() {
                return Ok(found);
            }
            at = end;
        }
        Ok((!data && offset < self.len).then_some(self.len))
    }

    /// The part of the file at `offset`: its first offset, its end, and what it is.
    fn part(&self, offset: u64) -> (u64, u64, CorePart<'_>) {
        let behind = self.pieces.partition_point(|piece| piece.at <= offset);
        let Some(piece) = behind.checked_sub(1).map(|at| &self.pieces[at]) else {
            let end = self.pieces.first().map_or(self.head.len() as u64, |first| first.at);
            if offset < end {
                return (0, end, CorePart::Bytes(&self.head));
            }
            return (end, self.len, CorePart::Bytes(&self.tail));
        };
        let end = piece.at + piece.segment.filled;
        match &piece.segment.content {
            _ if offset >= end => (end, self.len, CorePart::Bytes(&self.tail)),
            Content::Bytes(bytes) => (piece.at, end, CorePart::Bytes(bytes)),
            Content::Memory => (piece.at, end, CorePart::Segment(&piece.segment)),
        }
    }

    /// The first address from `address` on that has contents in the file.
    fn data(&self, segment: &ElfSegment, address: u64) -> Result<Option<u64>> {
        let end = segment.address + segment.filled;
        Ok(match segment.content {
            Content::Bytes(_) => Some(address),
            Content::Memory => self.view.memory()?.runs_at(self.pid, segment.address)?.next_data(address),
        }
        .filter(|found| *found < end))
    }

    /// The first address from `address` on without contents, or the end of the segment's part in
    /// the file.
    fn hole(&self, segment: &ElfSegment, address: u64) -> Result<u64> {
        let end = segment.address + segment.filled;
        Ok(match segment.content {
            Content::Bytes(_) => end,
            Content::Memory => self.view.memory()?.runs_at(self.pid, segment.address)?.next_hole(address).min(end),
        })
    }
}

enum CorePart<'a> {
    Bytes(&'a [u8]),
    Segment(&'a ElfSegment),
}

fn file_header(headers: usize, sections_at: u64) -> elf::FileHeader64<LE> {
    let sections = u16::from(sections_at != 0);
    elf::FileHeader64 {
        e_ident: elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_CORE),
        e_machine: U16::new(LE, elf::Machine(ARCH as u16)),
        e_version: U32::new(LE, u32::from(elf::EV_CURRENT.0)),
        e_entry: U64::default(),
        e_phoff: U64::new(LE, HEADER as u64),
        e_shoff: U64::new(LE, sections_at),
        e_flags: U32::default(),
        e_ehsize: U16::new(LE, HEADER as u16),
        e_phentsize: U16::new(LE, PROGRAM_HEADER as u16),
        e_phnum: U16::new(LE, u16::try_from(headers).unwrap_or(elf::PN_XNUM)),
        e_shentsize: U16::new(LE, sections * SECTION_HEADER as u16),
        e_shnum: U16::new(LE, sections),
        e_shstrndx: U16::default(),
    }
}

fn program_header(
    kind: elf::ProgramType,
    flags: elf::ProgramFlags,
    at: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
    align: u64,
) -> elf::ProgramHeader64<LE> {
    elf::ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: U64::new(LE, at),
        p_vaddr: U64::new(LE, address),
        p_paddr: U64::default(),
        p_filesz: U64::new(LE, in_file),
        p_memsz: U64::new(LE, in_memory),
        p_align: U64::new(LE, align),
    }
}

fn section_header(headers: usize) -> Vec<u8> {
    let header = elf::SectionHeader64::<LE> {
        sh_name: U32::default(),
        sh_type: U32::new(LE, elf::SHT_NULL),
        sh_flags: U64::default(),
        sh_addr: U64::default(),
        sh_offset: U64::default(),
        sh_size: U64::new(LE, 1),
        sh_link: U32::default(),
        sh_info: U32::new(LE, headers as u32),
        sh_addralign: U64::default(),
        sh_entsize: U64::default(),
    };
    bytes_of(&header).to_vec()
}

#[cfg(test)]
mod tests;

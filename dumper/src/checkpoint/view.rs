//! The contents of an image by process: `info.json`, `maps`, `vmas/`. Everything comes from its
//! records and its pages, so a live snapshot and a stored image show the same.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::checkpoint::address_space::{AddressSpaces, Area};
use crate::checkpoint::info;
use crate::error::{Context, Error, Result};
use crate::image::format::Header;
use crate::image::page_source::PageSource;
use crate::image::record_set::RecordSet;
use crate::pstree::record::{self, Tree};
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;
use crate::sys::proc::maps;

/// One mapping of a checkpoint.
#[derive(Clone, Debug)]
pub struct VmaView {
    /// First address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// How many of its bytes the image holds.
    pub stored: u64,
}

/// What `info.json` holds.
#[derive(Serialize)]
struct Info<'a> {
    image_bytes: u64,
    pid: Pid,
    records: info::Bodies<'a>,
    stopped_us: Option<u64>,
    stored_pages: u64,
    taken_ns: i64,
}

/// The processes of one image.
pub struct View {
    of_whom: String,
    header: Header,
    records: Arc<dyn RecordSet>,
    pages: Arc<dyn PageSource>,
    /// These are made at the first use. A caller that only reads the image needs none of them.
    tree: OnceLock<Result<Tree>>,
    memory: OnceLock<Result<AddressSpaces>>,
}

impl View {
    /// `of_whom` names the image in errors. `pages` are the sources that the page lists of
    /// `records` name.
    pub(crate) fn new(
        of_whom: String,
        header: Header,
        records: Arc<dyn RecordSet>,
        pages: Arc<dyn PageSource>,
    ) -> Self {
        let (tree, memory) = (OnceLock::new(), OnceLock::new());
        Self { of_whom, header, records, pages, tree, memory }
    }

    /// The image's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The image's records.
    pub(crate) fn records(&self) -> &dyn RecordSet {
        &*self.records
    }

    /// See [`crate::checkpoint::Checkpoint::taken`].
    pub fn taken(&self) -> SystemTime {
        let since = Duration::from_nanos(self.header.time_ns.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let taken = if self.header.time_ns < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
        taken.unwrap_or(epoch)
    }

    /// See [`crate::checkpoint::Checkpoint::stopped`].
    pub fn stopped(&self) -> Option<Duration> {
        (self.header.stopped_ns != 0).then(|| Duration::from_nanos(self.header.stopped_ns))
    }

    /// The address spaces.
    pub(crate) fn memory(&self) -> Result<&AddressSpaces> {
        let made = self.memory.get_or_init(|| AddressSpaces::of(&self.of_whom, self.tree()?, &*self.records));
        made.as_ref().map_err(Clone::clone)
    }

    /// The processes in it.
    pub(crate) fn tree(&self) -> Result<&Tree> {
        let missing = || Error::damaged(format!("{}: no record lists the processes", self.of_whom));
        let made = self.tree.get_or_init(|| {
            let first = self.records.records().find(|record| record.tag == record::TAG).ok_or_else(missing)?;
            Tree::parse(&first.to_record()).on(|| &self.of_whom)
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// See [`crate::checkpoint::Checkpoint::processes`].
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let processes = &self.tree()?.processes;
        Ok(processes.iter().filter(|process| !process.threads.is_empty()).map(|process| process.pid).collect())
    }

    /// See [`crate::checkpoint::Checkpoint::roots`].
    pub fn roots(&self) -> Result<Vec<Pid>> {
        let processes = &self.tree()?.processes;
        Ok(record::roots(processes).filter(|process| !process.threads.is_empty()).map(|process| process.pid).collect())
    }

    /// See [`crate::checkpoint::Checkpoint::info_json`].
    pub fn info_json(&self, pid: Pid) -> Result<String> {
        let areas = self.memory()?.of_process(pid)?;
        let info = Info {
            image_bytes: self.header.total,
            pid,
            records: info::records(&*self.records, self.tree()?, pid)?,
            stopped_us: self.stopped().map(|stopped| stopped.as_micros() as u64),
            stored_pages: areas.iter().map(|area| area.runs.pages()).sum(),
            taken_ns: self.header.time_ns,
        };
        let text = serde_json::to_string_pretty(&info);
        text.map(|text| text + "\n").map_err(|error| Error::damaged(format!("{}: {error}", self.of_whom)))
    }

    /// See [`crate::checkpoint::Checkpoint::maps`].
    pub fn maps(&self, pid: Pid) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for Area { vma, runs, .. } in self.memory()?.of_process(pid)? {
            let bit = |prot: i32, letter: char| if vma.prot & prot != 0 { letter } else { '-' };
            // Writing into memory cannot fail.
            let _ = write!(
                text,
                "{:x}-{:x} {}{}{}{} {:08x} {:02x}:{:02x} {:<10} {:>12} ",
                vma.start,
                vma.end,
                bit(libc::PROT_READ, 'r'),
                bit(libc::PROT_WRITE, 'w'),
                bit(libc::PROT_EXEC, 'x'),
                if vma.kind.is_shared() { 's' } else { 'p' },
                vma.offset,
                libc::major(vma.dev),
                libc::minor(vma.dev),
                vma.ino,
                runs.pages() * PAGE,
            );
            text.extend(maps::escape(vma.name()));
            text.push(b'\n');
        }
        Ok(text)
    }

    /// See [`crate::checkpoint::Checkpoint::vmas`].
    pub fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        let view = |area: &Area| VmaView { start: area.vma.start, end: area.vma.end, stored: area.runs.pages() * PAGE };
        Ok(self.memory()?.of_process(pid)?.iter().map(view).collect())
    }

    /// See [`crate::checkpoint::Checkpoint::read_vma`].
    pub fn read(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let memory = self.memory()?;
        let len = memory.area(pid, start)?.vma.len();
        let wanted = (buf.len() as u64).min(len.saturating_sub(offset)) as usize;
        memory.read(&*self.pages, pid, start + offset.min(len), &mut buf[..wanted])?;
        Ok(wanted)
    }

    /// Reads memory of a process from `address` on. All of `buf` must be within one mapping. Reads
    /// zeros where nothing is stored.
    pub fn read_memory(&self, pid: Pid, address: u64, buf: &mut [u8]) -> Result<()> {
        self.memory()?.read(&*self.pages, pid, address, buf)
    }

    /// See [`crate::checkpoint::Checkpoint::seek_vma`].
    pub fn seek(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        let Area { vma, runs, .. } = self.memory()?.area(pid, start)?;
        let len = vma.len();
        if offset >= len {
            return Ok(None);
        }
        let at = start + offset;
        let page = at - at % PAGE;
        let here = runs.contains(page);
        Ok(match (data, here) {
            (true, true) | (false, false) => Some(offset),
            (true, false) => runs.next_data(page).map(|found| found - start),
            (false, true) => Some((runs.next_hole(page) - start).min(len)),
        })
    }
}

//! A snapshot by process: what `info.json`, `maps` and `vmas/` show of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::image::{Layout, PageRuns, PageSource};
use crate::info;
use crate::pages::Sources;
use crate::sys::memory::PAGE;
use crate::sys::proc::Mapping;
use crate::{Error, Kind, Pid, Result};

/// One mapping of a snapshot.
#[derive(Clone, Debug)]
pub struct VmaView {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// Bytes of it that the image holds.
    pub stored: u64,
}

/// One mapping, and where its pages are.
pub struct ViewedVma {
    /// As the process has it.
    pub mapping: Mapping,
    /// The source of its pages.
    pub source: usize,
    /// All pages of its own, also those that the image stores with its maker.
    pub runs: PageRuns,
}

/// The processes of one snapshot.
pub struct View {
    of_whom: String,
    layout: Arc<Layout>,
    sources: Arc<Sources>,
    processes: BTreeMap<Pid, Vec<ViewedVma>>,
    taken: SystemTime,
    stopped: Duration,
}

impl View {
    /// `of_whom` stands in errors; `processes`: the mappings of each, ascending.
    pub fn new(
        of_whom: String,
        layout: Arc<Layout>,
        sources: Arc<Sources>,
        processes: BTreeMap<Pid, Vec<ViewedVma>>,
        taken: SystemTime,
        stopped: Duration,
    ) -> Self {
        Self { of_whom, layout, sources, processes, taken, stopped }
    }

    fn of(&self, pid: Pid) -> Result<&[ViewedVma]> {
        let gone = || Error::new(Kind::NoProcess, format!("pid {pid} is not in the snapshot of {}", self.of_whom));
        self.processes.get(&pid).map(Vec::as_slice).ok_or_else(gone)
    }

    /// See [`crate::Snapshot::info_json`].
    pub fn info_json(&self, pid: Pid) -> Result<String> {
        let vmas = self.of(pid)?;
        let since = self.taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let info = json!({
            "pid": pid,
            "taken_ns": since.as_nanos() as u64,
            "stopped_us": self.stopped.as_micros() as u64,
            "image_bytes": self.layout.len(),
            "stored_pages": vmas.iter().map(|vma| vma.runs.pages()).sum::<u64>(),
            "records": info::records(&self.layout, pid)?,
        });
        Ok(format!("{info:#}\n"))
    }

    /// See [`crate::Snapshot::maps`].
    pub fn maps(&self, pid: Pid) -> Result<String> {
        let mut text = String::new();
        for ViewedVma { mapping, runs, .. } in self.of(pid)? {
            let bit = |prot: i32, letter: char| if mapping.prot & prot != 0 { letter } else { '-' };
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{:x}-{:x} {}{}{}{} {:08x} {:02x}:{:02x} {:<10} {:>12} {}",
                mapping.start,
                mapping.end,
                bit(libc::PROT_READ, 'r'),
                bit(libc::PROT_WRITE, 'w'),
                bit(libc::PROT_EXEC, 'x'),
                if mapping.shared { 's' } else { 'p' },
                mapping.offset,
                libc::major(mapping.dev),
                libc::minor(mapping.dev),
                mapping.ino,
                runs.pages() * PAGE,
                String::from_utf8_lossy(&mapping.name),
            );
        }
        Ok(text)
    }

    /// See [`crate::Snapshot::vmas`].
    pub fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        let view = |vma: &ViewedVma| VmaView {
            start: vma.mapping.start,
            end: vma.mapping.end,
            stored: vma.runs.pages() * PAGE,
        };
        Ok(self.of(pid)?.iter().map(view).collect())
    }

    /// The mapping that starts at `start`.
    fn mapping(&self, pid: Pid, start: u64) -> Result<&ViewedVma> {
        let found = self.of(pid)?.iter().find(|vma| vma.mapping.start == start);
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("pid {pid} has no mapping at {start:x}")))
    }

    /// See [`crate::Snapshot::read_vma`].
    pub fn read(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let ViewedVma { mapping, source, runs } = self.mapping(pid, start)?;
        let len = mapping.end - mapping.start;
        let wanted = (buf.len() as u64).min(len.saturating_sub(offset));
        let buf = &mut buf[..wanted as usize];
        let (mut at, end) = (start + offset.min(len), start + offset.min(len) + wanted);
        while at < end {
            let page = at - at % PAGE;
            let (upto, stored) = if runs.contains(page) {
                (runs.next_hole(page), true)
            } else {
                (runs.next_data(page).unwrap_or(u64::MAX), false)
            };
            let upto = upto.min(end);
            let base = start + offset;
            let part = &mut buf[(at - base) as usize..(upto - base) as usize];
            if stored {
                self.sources.read(*source, at, part)?;
            } else {
                part.fill(0);
            }
            at = upto;
        }
        Ok(wanted as usize)
    }

    /// See [`crate::Snapshot::seek_vma`].
    pub fn seek(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        let ViewedVma { mapping, runs, .. } = self.mapping(pid, start)?;
        let len = mapping.end - mapping.start;
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

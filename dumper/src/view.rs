//! A snapshot by process: what `info.json`, `maps` and `vmas/` show of it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::image::{Layout, PageRuns, PageSource};
use crate::pages::Sources;
use crate::sys::memory::PAGE;
use crate::sys::proc::Mapping;
use crate::task::vma;
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

/// The processes of one snapshot.
pub struct View {
    root: Pid,
    layout: Arc<Layout>,
    sources: Arc<Sources>,
    mappings: Vec<(Mapping, u64)>,
    taken: SystemTime,
    stopped: Duration,
}

impl View {
    /// `mappings`: each with the number of its pages in the image.
    pub fn new(
        root: Pid,
        layout: Arc<Layout>,
        sources: Arc<Sources>,
        mappings: Vec<(Mapping, u64)>,
        taken: SystemTime,
        stopped: Duration,
    ) -> Self {
        Self { root, layout, sources, mappings, taken, stopped }
    }

    fn of(&self, pid: Pid) -> Result<()> {
        if pid == self.root {
            return Ok(());
        }
        Err(Error::new(Kind::NoProcess, format!("pid {pid} is not in the snapshot of pid {}", self.root)))
    }

    /// See [`crate::Snapshot::info_json`].
    pub fn info_json(&self, pid: Pid) -> Result<String> {
        self.of(pid)?;
        let mut records = Map::new();
        for record in self.layout.records() {
            let body: Value = serde_json::from_slice(record.json)
                .map_err(|error| Error::damaged(format!("record {}: {error}", record.tag)))?;
            let list = records.entry(record.tag.to_string().trim().to_owned()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(body);
            }
        }
        let since = self.taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let info = json!({
            "pid": pid,
            "taken_ns": since.as_nanos() as u64,
            "stopped_us": self.stopped.as_micros() as u64,
            "image_bytes": self.layout.len(),
            "stored_pages": self.mappings.iter().map(|(_, pages)| pages).sum::<u64>(),
            "records": records,
        });
        Ok(format!("{info:#}\n"))
    }

    /// See [`crate::Snapshot::maps`].
    pub fn maps(&self, pid: Pid) -> Result<String> {
        self.of(pid)?;
        let mut text = String::new();
        for (mapping, pages) in &self.mappings {
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
                pages * PAGE,
                String::from_utf8_lossy(&mapping.name),
            );
        }
        Ok(text)
    }

    /// See [`crate::Snapshot::vmas`].
    pub fn vmas(&self, pid: Pid) -> Result<Vec<VmaView>> {
        self.of(pid)?;
        let view = |(mapping, pages): &(Mapping, u64)| VmaView {
            start: mapping.start,
            end: mapping.end,
            stored: pages * PAGE,
        };
        Ok(self.mappings.iter().map(view).collect())
    }

    /// The mapping that starts at `start`, its page source and its page set.
    fn mapping(&self, pid: Pid, start: u64) -> Result<(&Mapping, usize, &PageRuns)> {
        self.of(pid)?;
        let vmas = self.layout.records().filter(|record| record.tag == vma::TAG);
        let mut page_lists = vmas.filter_map(|record| record.pages);
        for (mapping, _) in &self.mappings {
            let Some((source, runs)) = page_lists.next() else { break };
            if mapping.start == start {
                return Ok((mapping, source, runs));
            }
        }
        Err(Error::new(Kind::NotFound, format!("pid {pid} has no mapping at {start:x}")))
    }

    /// See [`crate::Snapshot::read_vma`].
    pub fn read(&self, pid: Pid, start: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (mapping, source, runs) = self.mapping(pid, start)?;
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
                self.sources.read(source, at, part)?;
            } else {
                part.fill(0);
            }
            at = upto;
        }
        Ok(wanted as usize)
    }

    /// See [`crate::Snapshot::seek_vma`].
    pub fn seek(&self, pid: Pid, start: u64, offset: u64, data: bool) -> Result<Option<u64>> {
        let (mapping, _, runs) = self.mapping(pid, start)?;
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

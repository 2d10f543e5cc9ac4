//! An image of invented processes with invented memory, for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::{Value, json};

use crate::checkpoint::view::View;
use crate::error::Result;
use crate::image::builder::LayoutBuilder;
use crate::image::frame::{Record, Tag};
use crate::image::page_runs::PageRuns;
use crate::image::page_source::PageSource;
use crate::sys::pid::Pid;

/// Bytes that are computed from the source and the address.
struct MadeUp;

pub(crate) fn byte_at(source: usize, address: u64) -> u8 {
    (address / 4096 * 37 + address % 251 + source as u64 + 1) as u8
}

impl PageSource for MadeUp {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        for (at, byte) in (address..).zip(buf) {
            *byte = byte_at(source, at);
        }
        Ok(())
    }
}

/// The image that is being made.
pub(crate) struct FakeCheckpoint {
    builder: LayoutBuilder,
    sources: usize,
}

impl FakeCheckpoint {
    /// Makes processes with one thread each, given as (pid, pid of its maker, or 0). All but the
    /// first have pages from their makers.
    pub(crate) fn of(processes: &[(Pid, Pid)]) -> Self {
        let process = |(pid, by): &(Pid, Pid)| {
            json!({
                "pid": pid, "ppid": 1, "pgid": pid, "sid": pid, "threads": [pid], "stopped_by": null, "terminal": null,
                "made": {"by": by, "how": "child", "session": 0}, "inherits": *by != 0,
            })
        };
        let mut fake = Self { builder: LayoutBuilder::new(1), sources: 0 };
        let processes: Vec<Value> = processes.iter().map(process).collect();
        fake.record(b"TREE", json!({ "processes": processes, "kernel": "", "xsave": [[2, 256, 576], [9, 8, 2688]] }));
        fake
    }

    pub(crate) fn record(&mut self, tag: &[u8; 4], body: Value) {
        self.record_with(tag, body, Vec::new());
    }

    pub(crate) fn record_with(&mut self, tag: &[u8; 4], body: Value, blob: Vec<u8>) {
        self.builder.record(Record::new(Tag(*tag), &body).unwrap().with_blob(blob)).unwrap();
    }

    /// Adds a record with a list of pages. Returns the number of its source.
    pub(crate) fn pages(&mut self, tag: &[u8; 4], body: Value, blob: Vec<u8>, pages: &[(u64, u64)]) -> usize {
        let record = Record::new(Tag(*tag), &body).unwrap().with_blob(blob).opens_pages();
        self.builder.record(record).unwrap();
        let mut runs = PageRuns::new();
        pages.iter().for_each(|(address, pages)| runs.push(*address, *pages));
        self.builder.pages(self.sources, runs);
        self.sources += 1;
        self.sources - 1
    }

    /// Adds a mapping with these pages of its own and these pages of its maker. Returns the number
    /// of the source of its own pages.
    pub(crate) fn area(
        &mut self,
        pid: Pid,
        (start, end): (u64, u64),
        kind: &str,
        pages: &[(u64, u64)],
        inherited: &[(u64, u64)],
    ) -> usize {
        let body = json!({
            "tid": pid, "start": start, "end": end, "prot": 3, "type": kind, "flags": [], "offset": 0, "name": "",
            "file": if kind == "ANON" { Value::Null } else { json!(5) }, "pages": pages.len(), "guards": [],
        });
        let blob = inherited.iter().flat_map(|(at, pages)| [*at, *pages]).flat_map(u64::to_le_bytes).collect();
        self.pages(b"AREA", body, blob, pages)
    }

    pub(crate) fn view(self) -> View {
        let layout = Arc::new(self.builder.finish().unwrap());
        View::new("a fake".into(), *layout.header(), layout, Arc::new(MadeUp))
    }
}

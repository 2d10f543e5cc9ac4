//! The whole image, decided before its first byte is read. Records and page sets go in, every
//! offset comes out.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::image::checksums::Checksums;
use crate::image::format::{HEADER_LEN, Header};
use crate::image::frame::{BlobSum, Record, Tag};
use crate::image::layout::{Layout, LayoutSegment};
use crate::image::mac_tree::MacTree;
use crate::image::page_list::PageList;
use crate::image::page_runs::PageRuns;
use crate::image::record_frame::RecordFrame;
use crate::image::signature;
use crate::image::trailer::Trailer;
use crate::key::Key;

/// Collects what an image consists of, in order.
#[derive(Debug)]
pub struct LayoutBuilder {
    time_ns: i64,
    stopped: Duration,
    segments: Vec<LayoutSegment>,
    at: u64,
    frames: u64,
    chunks: usize,
    /// The record that waits for its pages.
    opened: Option<Tag>,
    key: Option<Key>,
    fault: Option<Error>,
}

impl LayoutBuilder {
    /// An image of the instant `time_ns` (since the epoch), without any record yet.
    pub fn new(time_ns: i64) -> LayoutBuilder {
        let at = HEADER_LEN as u64;
        let (stopped, segments) = (Duration::ZERO, Vec::new());
        LayoutBuilder { time_ns, stopped, segments, at, frames: 0, chunks: 0, opened: None, key: None, fault: None }
    }

    /// The same image, signed with `key`.
    pub fn signed(time_ns: i64, key: Key) -> Result<LayoutBuilder> {
        let mut builder = LayoutBuilder { key: Some(key), ..LayoutBuilder::new(time_ns) };
        let record = signature::signed()?;
        let frame = RecordFrame::new(&record, 0);
        builder.add(&record, frame);
        Ok(builder)
    }

    /// Sets how long the processes were stopped.
    pub fn stopped(&mut self, stopped: Duration) {
        self.stopped = stopped;
    }

    /// Adds a record. Refused (EOPNOTSUPP) if it is over the format's ceilings.
    pub fn record(&mut self, record: Record) -> Result<()> {
        record.check(record.blob.len())?;
        let frame = RecordFrame::new(&record, self.frames);
        self.add(&record, frame);
        Ok(())
    }

    /// Adds a record with a blob that is read from `source` at `at` when its bytes are needed. The
    /// blob of `record` itself is empty.
    pub(crate) fn record_with(&mut self, record: &Record, source: usize, at: u64, blob: BlobSum) -> Result<()> {
        record.check(blob.len)?;
        let frame = RecordFrame::before(record, source, at, blob, self.frames);
        self.add(record, frame);
        Ok(())
    }

    fn add(&mut self, record: &Record, frame: RecordFrame) {
        self.close_list();
        self.opened = record.pages.then_some(record.tag);
        let len = frame.len();
        self.segments.push(LayoutSegment::Record { at: self.at, frame });
        self.at += len;
        self.frames += 1;
    }

    /// Adds the pages of the last record, which must open a list. They are read from `source` when
    /// their bytes are needed. If this is called at a wrong place, [`LayoutBuilder::finish`] fails.
    pub fn pages(&mut self, source: usize, runs: PageRuns) {
        let Some(tag) = self.opened.take() else {
            let fault =
                Error::unsupported(format!("image offset {}: pages without a record that opens a list", self.at));
            self.fault.get_or_insert(fault);
            return;
        };
        if !runs.is_ordered() {
            let fault = Error::unsupported(format!("record {tag}: the runs of pages overlap or are not page-aligned"));
            self.fault.get_or_insert(fault);
            return;
        }
        let list = PageList::new(source, runs, self.at, self.frames, self.chunks);
        self.at = list.end();
        self.frames += list.frames();
        self.chunks += list.chunks() as usize;
        self.segments.push(LayoutSegment::Pages(list));
    }

    /// Ends the image. From now on every offset is known.
    pub fn finish(mut self) -> Result<Layout> {
        self.close_list();
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let stopped_ns = u64::try_from(self.stopped.as_nanos()).unwrap_or(u64::MAX);
        let trailer_len = Trailer::encoded_len(self.frames, self.key.is_some())?;
        let header = Header::new(self.at + trailer_len, self.time_ns, stopped_ns);
        let mac = self.key.map(|key| MacTree::new(key, self.at));
        Ok(Layout::new(header, self.segments, self.at, Checksums::new(self.chunks), mac))
    }

    /// A record that opens a list without pages behind it has an empty list.
    fn close_list(&mut self) {
        if self.opened.is_some() {
            self.pages(0, PageRuns::new());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::page_source::PageSource;

    fn record() -> Record {
        Record::new(Tag(*b"TEST"), &1).unwrap()
    }

    #[test]
    fn misuse_is_refused_at_the_end() {
        let mut builder = LayoutBuilder::new(0);
        builder.record(record()).unwrap();
        builder.pages(0, PageRuns::new());
        assert!(builder.finish().unwrap_err().to_string().contains("without a record that opens a list"));

        let mut builder = LayoutBuilder::new(0);
        builder.record(record().opens_pages()).unwrap();
        let mut runs = PageRuns::new();
        runs.push(0x2000, 1);
        runs.push(0x1000, 1);
        builder.pages(0, runs);
        assert!(builder.finish().unwrap_err().to_string().contains("record TEST: the runs of pages overlap"));
    }

    #[test]
    fn a_blob_kept_elsewhere_gives_the_same_bytes() {
        struct Blob(Vec<u8>);
        impl PageSource for Blob {
            fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
                assert_eq!(source, 3);
                let from = address as usize - 10;
                buf.copy_from_slice(&self.0[from..from + buf.len()]);
                Ok(())
            }
        }
        for len in [1, 7, 8, 5000] {
            let blob: Vec<u8> = (0..len).map(|byte| byte as u8 | 1).collect();
            let (mut here, mut elsewhere) = (LayoutBuilder::new(0), LayoutBuilder::new(0));
            here.record(record().with_blob(blob.clone())).unwrap();
            elsewhere.record_with(&record(), 3, 10, BlobSum::of(&blob)).unwrap();
            let bytes = [here, elsewhere].map(|mut builder| {
                builder.record(record()).unwrap();
                let layout = builder.finish().unwrap();
                let mut bytes = vec![0xee; layout.len() as usize];
                for (at, piece) in bytes.chunks_mut(7).enumerate() {
                    layout.read_at(&Blob(blob.clone()), at as u64 * 7, piece).unwrap();
                }
                bytes
            });
            assert!(bytes[0] == bytes[1], "a blob of {len} bytes");
        }
    }

    #[test]
    fn a_list_without_pages_is_closed() {
        let mut builder = LayoutBuilder::new(0);
        builder.record(record().opens_pages()).unwrap();
        builder.record(record()).unwrap();
        let layout = builder.finish().unwrap();
        assert_eq!(layout.records().map(|record| record.pages.is_some()).collect::<Vec<_>>(), [true, false]);
    }
}

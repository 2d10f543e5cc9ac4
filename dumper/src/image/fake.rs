//! Invented pages that count how often they are read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Kind, Result};
use crate::image::builder::LayoutBuilder;
use crate::image::format::PAGE_SIZE;
use crate::image::frame::{Record, Tag};
use crate::image::layout::Layout;
use crate::image::page_runs::PageRuns;
use crate::image::page_source::PageSource;
use crate::key::Key;

/// The address of the first page of every list.
const BASE: u64 = 0x7f00_0000_0000;

const TIME_NS: i64 = 1_700_000_000_000_000_000;

/// A source in which every byte depends on source, address and place.
#[derive(Default)]
pub(crate) struct FakePages {
    read: Mutex<HashMap<(usize, u64), u64>>,
    failing: AtomicBool,
}

impl FakePages {
    /// Makes every read fail from now on, or none.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.lock().values().sum()
    }

    pub(crate) fn assert_each_page_once(&self, pages: usize) {
        let read = self.read.lock();
        assert_eq!(read.len(), pages, "pages read at all");
        assert!(read.values().all(|bytes| *bytes == PAGE_SIZE), "some page was read twice or in part");
    }
}

impl PageSource for FakePages {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::SnapshotLost, "lost"));
        }
        let mut at = address;
        let mut rest = buf;
        while !rest.is_empty() {
            let page = at / PAGE_SIZE * PAGE_SIZE;
            let len = rest.len().min((page + PAGE_SIZE - at) as usize);
            let (piece, behind) = rest.split_at_mut(len);
            let seed = (page / PAGE_SIZE).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ source as u64;
            for (index, byte) in (at - page..).zip(piece.iter_mut()) {
                *byte = (seed >> (index % 57)) as u8 ^ index as u8;
            }
            *self.read.lock().entry((source, page)).or_default() += len as u64;
            at += len as u64;
            rest = behind;
        }
        Ok(())
    }
}

/// A layout of one list for each number of pages (in runs of 1, 2, 3 ... pages with holes between),
/// and a last record.
pub(crate) fn layout(lists: &[u64]) -> Layout {
    fill(LayoutBuilder::new(TIME_NS), lists)
}

/// The same, signed.
pub(crate) fn signed_layout(lists: &[u64]) -> Layout {
    fill(LayoutBuilder::signed(TIME_NS, key()).unwrap(), lists)
}

/// The key of the signed layouts.
pub(crate) fn key() -> Key {
    Key::new(b"the secret of these layouts").unwrap()
}

fn fill(mut builder: LayoutBuilder, lists: &[u64]) -> Layout {
    for (source, pages) in lists.iter().enumerate() {
        let record = Record::new(Tag(*b"LIST"), pages).unwrap().with_blob(vec![source as u8; 5]).opens_pages();
        builder.record(record).unwrap();
        let (mut runs, mut address, mut left) = (PageRuns::new(), BASE, *pages);
        for len in 1.. {
            let len = left.min(len);
            runs.push(address, len);
            address += (len + 1) * PAGE_SIZE;
            left -= len;
            if left == 0 {
                break;
            }
        }
        builder.pages(source, runs);
    }
    builder.record(Record::new(Tag(*b"LAST"), &()).unwrap()).unwrap();
    builder.finish().unwrap()
}

//! The image in the golden file: a small one with one of each kind of record.

use std::time::Duration;

use ckptfs_dumper::image::{Layout, LayoutBuilder, PageRuns, PageSource, Record, Tag};
use ckptfs_dumper::{Key, Result};

/// Artificial memory: every byte depends on its address.
pub struct MadeUp;

impl PageSource for MadeUp {
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()> {
        for (at, byte) in (address..).zip(buf) {
            *byte = byte_at(source, at);
        }
        Ok(())
    }
}

pub fn byte_at(source: usize, address: u64) -> u8 {
    (address / 4096 * 37 + address % 251 + source as u64) as u8
}

pub const TIME_NS: i64 = 1_700_000_000_123_456_789;
pub const STOOD_NS: u64 = 1_234_567;

/// The lists of the sample: source and runs.
pub const LISTS: [(usize, &[(u64, u64)]); 3] =
    [(0, &[(0x5555_0000_0000, 2), (0x5555_0000_3000, 1)]), (1, &[]), (2, &[(0x7fff_ffff_e000, 1)])];

/// The JSON is written out, because the bytes must not depend on the order of a map.
pub fn records() -> Vec<Record> {
    let record = |tag: &[u8; 4], json: &str| Record { json: json.into(), ..Record::new(Tag(*tag), &()).unwrap() };
    vec![
        record(b"TASK", r#"{"pid":4711,"comm":"sleep"}"#).with_blob((0..77).collect()),
        record(b"VMAR", r#"{"start":93823560581120,"end":93823560601600}"#).opens_pages(),
        record(b"VMAR", r#"{"start":105553116266496,"end":105553116270592,"name":"[heap]"}"#).opens_pages(),
        record(b"NOTE", "{}").optional(),
        record(b"VMAR", r#"{"start":"7fffffff0000","end":"7ffffffff000"}"#).opens_pages().with_blob(vec![1; 8]),
        record(b"DONE", r#"{"threads":[4711,4712],"limits":{"nofile":1024},"nice":-5,"frozen":false}"#),
    ]
}

pub fn layout() -> Layout {
    filled(LayoutBuilder::new(TIME_NS))
}

/// The same records, in an image that is signed.
pub fn signed_layout(key: &Key) -> Layout {
    filled(LayoutBuilder::signed(TIME_NS, key.clone()).unwrap())
}

fn filled(mut builder: LayoutBuilder) -> Layout {
    builder.stopped(Duration::from_nanos(STOOD_NS));
    let mut lists = LISTS.iter();
    for record in records() {
        let pages = record.pages;
        builder.record(record).unwrap();
        if pages {
            let (source, list) = lists.next().unwrap();
            let mut runs = PageRuns::new();
            list.iter().for_each(|(address, pages)| runs.push(*address, *pages));
            builder.pages(*source, runs);
        }
    }
    builder.finish().unwrap()
}

/// The bytes as this build writes them.
pub fn image() -> Vec<u8> {
    written(&layout())
}

pub fn written(layout: &Layout) -> Vec<u8> {
    let mut bytes = vec![0; layout.len() as usize];
    assert_eq!(layout.read_at(&MadeUp, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// An endless sequence of numbers, the same in every run (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

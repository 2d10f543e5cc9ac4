#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use crate::image::decoder::Decoder;
use crate::image::decoder::sink::Sink;
use crate::image::fake::{FakePages, key, layout, signed_layout};
use crate::image::frame::Record;
use crate::image::layout::*;

fn read(layout: &Layout, fake: &FakePages, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xee; len];
    let got = layout.read_at(fake, offset, &mut buf).unwrap();
    assert_eq!(got as u64, layout.len().saturating_sub(offset).min(len as u64));
    buf.truncate(got);
    buf
}

/// Layouts that share only the pages, so that the checksums of one reading do not help another.
fn whole() -> Vec<u8> {
    let layout = layout(&[3, 700, 0, 256, 1]);
    read(&layout, &FakePages::default(), 0, layout.len() as usize)
}

#[test]
fn any_cut_gives_the_same_bytes_and_reads_each_page_once() {
    let whole = whole();
    for step in [1 << 20, 10_240, 4096, 65_537, 1_000_003] {
        let (layout, fake) = (layout(&[3, 700, 0, 256, 1]), FakePages::default());
        let read: Vec<u8> =
            (0..layout.len()).step_by(step).flat_map(|at| self::read(&layout, &fake, at, step)).collect();
        assert!(read == whole, "steps of {step}");
        fake.assert_each_page_once(960);
    }
}

#[test]
fn any_order_gives_the_same_bytes() {
    let whole = whole();
    let (layout, fake) = (layout(&[3, 700, 0, 256, 1]), FakePages::default());
    let places: Vec<u64> = (0..layout.len()).step_by(99_991).collect();
    for at in places.into_iter().rev() {
        let piece = read(&layout, &fake, at, 99_991);
        assert!(piece == whole[at as usize..at as usize + piece.len()], "at {at}");
    }
}

#[test]
fn the_trailer_alone_reads_every_page_once_and_the_rest_is_known_then() {
    let whole = whole();
    let (layout, fake) = (layout(&[3, 700, 0, 256, 1]), FakePages::default());
    let tail = layout.len() - 100;
    assert!(read(&layout, &fake, tail, 4096) == whole[tail as usize..]);
    fake.assert_each_page_once(960);
    assert!(read(&layout, &fake, tail, 4096) == whole[tail as usize..]);
    fake.assert_each_page_once(960);
}

#[test]
fn a_footer_alone_reads_its_chunk() {
    let whole = whole();
    let (layout, fake) = (layout(&[700]), FakePages::default());
    let Some(LayoutSegment::Pages(list)) = layout.segments.get(1) else { panic!("no list") };
    let at = list.footer_at(2);
    let mut expected = vec![0; 8];
    layout.read_at(&fake, at, &mut expected).unwrap();
    assert_eq!(fake.bytes_read(), (700 - 512) * 4096);
    assert_eq!(expected, list.footer(2, crc::of(&read(&layout, &fake, list.content_at(2), 188 * 4096))));
    assert!(whole.len() as u64 > layout.len());
}

#[test]
fn records_are_there_to_be_looked_at() {
    let layout = layout(&[3, 700]);
    let found: Vec<_> = layout.records().map(|r| (r.tag.0, r.pages.map(|(_, runs)| runs.pages()))).collect();
    assert_eq!(found, [(*b"LIST", Some(3)), (*b"LIST", Some(700)), (*b"LAST", None)]);
    let first = layout.records().next().unwrap();
    assert_eq!((first.json, first.blob), (&b"3"[..], &[0; 5][..]));
}

#[test]
fn beyond_the_end_is_nothing() {
    let layout = layout(&[1]);
    assert!(read(&layout, &FakePages::default(), layout.len(), 10).is_empty());
    assert!(read(&layout, &FakePages::default(), u64::MAX, 10).is_empty());
    assert!(!layout.is_empty());
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_and_can_be_tried_again() {
    let (layout, fake) = (layout(&[3, 700]), FakePages::default());
    fake.fail(true);
    let mut buf = vec![0; layout.len() as usize];
    assert_eq!(layout.read_at(&fake, 0, &mut buf).unwrap_err().to_string(), "lost");
    fake.fail(false);
    let whole = read(&layout, &fake, 0, buf.len());
    assert!(whole == read(&self::layout(&[3, 700]), &FakePages::default(), 0, buf.len()));
}

/// Takes everything.
struct Anything;

impl Sink for Anything {
    fn header(&mut self, _: &Header) -> Result<()> {
        Ok(())
    }
    fn record(&mut self, _: Record) -> Result<()> {
        Ok(())
    }
    fn pages(&mut self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }
    fn end(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

const SIGNED: [u64; 5] = [3, 700, 0, 256, 1];

#[test]
fn a_signed_layout_reads_each_page_once_and_is_verified() {
    for step in [1 << 20, 10_240, 4096, 10 << 20, 65_536] {
        let (layout, fake) = (signed_layout(&SIGNED), FakePages::default());
        let read: Vec<u8> =
            (0..layout.len()).step_by(step).flat_map(|at| self::read(&layout, &fake, at, step)).collect();
        let mut decoder = Decoder::new(Some(&key()));
        decoder.push(&read, &mut Anything).unwrap();
        decoder.finish().unwrap();
        if step.is_multiple_of(4096) {
            fake.assert_each_page_once(960);
        }
    }
}

#[test]
fn a_signature_is_the_same_however_the_image_is_read() {
    let layout = signed_layout(&SIGNED);
    let whole = read(&layout, &FakePages::default(), 0, layout.len() as usize);
    for step in [700, 99_991, 131_072, 1 << 20] {
        let (layout, fake) = (signed_layout(&SIGNED), FakePages::default());
        let places: Vec<u64> = (0..layout.len()).step_by(step).collect();
        for at in places.into_iter().rev() {
            let piece = read(&layout, &fake, at, step);
            assert!(piece == whole[at as usize..at as usize + piece.len()], "at {at} in steps of {step}");
        }
    }
    let (layout, fake) = (signed_layout(&SIGNED), FakePages::default());
    let tail = layout.len() - 100;
    assert!(read(&layout, &fake, tail, 4096) == whole[tail as usize..]);
    fake.assert_each_page_once(960);
}

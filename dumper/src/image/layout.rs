//! The bytes of an image at any offset: from records kept here, from pages read on demand.

use std::sync::OnceLock;

use crate::error::Result;
use crate::image::checksums::Checksums;
use crate::image::crc;
use crate::image::format::{FOOTER_LEN, FRAME_LEN, Header, padded};
use crate::image::frame::{BlobSum, Record, Tag};
use crate::image::page_list::PageList;
use crate::image::page_source::PageSource;
use crate::image::record_set::{RecordSet, RecordView};
use crate::image::trailer::Digest;
use crate::image::window::Window;

/// How many bytes are read at once if only their CRC is needed.
const SCRATCH: u64 = 256 << 10;

/// An image with every offset known. It holds records, page sets and checksums, never page
/// contents.
#[derive(Debug)]
pub struct Layout {
    header: Header,
    segments: Vec<LayoutSegment>,
    trailer_at: u64,
    checksums: Checksums,
    trailer: OnceLock<Vec<u8>>,
}

/// What lies between header and trailer, ascending.
#[derive(Debug)]
pub(super) enum LayoutSegment {
    Record { at: u64, frame: RecordFrame },
    Pages(PageList),
}

/// A record as it stands in the image.
#[derive(Debug)]
pub(super) struct RecordFrame {
    tag: Tag,
    json_len: usize,
    blob_len: usize,
    /// The frame, up to its blob if that is kept elsewhere.
    bytes: Box<[u8]>,
    /// The source of the blob, and where in the source it begins.
    elsewhere: Option<(usize, u64)>,
}

impl RecordFrame {
    pub(super) fn new(record: &Record, ordinal: u64) -> RecordFrame {
        let (json_len, blob_len) = (record.json.len(), record.blob.len());
        RecordFrame { tag: record.tag, json_len, blob_len, bytes: record.encode(ordinal).into(), elsewhere: None }
    }

    /// The frame of a record with a blob that is read from `source`.
    pub(super) fn before(record: &Record, source: usize, at: u64, blob: BlobSum, ordinal: u64) -> RecordFrame {
        let (json_len, blob_len) = (record.json.len(), blob.len);
        let (bytes, elsewhere) = (record.encode_before(blob, ordinal).into(), Some((source, at)));
        RecordFrame { tag: record.tag, json_len, blob_len, bytes, elsewhere }
    }

    /// Its length in the image.
    pub(super) fn len(&self) -> u64 {
        (FRAME_LEN + padded(self.json_len) + padded(self.blob_len)) as u64
    }

    /// Puts its bytes into the window. It begins at `at`.
    fn fill(&self, pages: &dyn PageSource, at: u64, window: &mut Window<'_>) -> Result<()> {
        window.put(at, &self.bytes);
        let Some((source, begin)) = self.elsewhere else { return Ok(()) };
        let blob_at = at + self.bytes.len() as u64;
        if let Some((from, place)) = window.part(blob_at, self.blob_len as u64) {
            pages.read(source, begin + from, place)?;
        }
        window.zero(blob_at + self.blob_len as u64, at + self.len());
        Ok(())
    }

    fn json(&self) -> &[u8] {
        &self.bytes[FRAME_LEN..FRAME_LEN + self.json_len]
    }

    /// Empty, if it is kept elsewhere.
    fn blob(&self) -> &[u8] {
        let at = FRAME_LEN + padded(self.json_len);
        self.bytes.get(at..at + self.blob_len).unwrap_or_default()
    }
}

impl RecordSet for Layout {
    fn records(&self) -> Box<dyn Iterator<Item = RecordView<'_>> + '_> {
        Box::new(Layout::records(self))
    }
}

/// What [`Layout::fill`] leaves to [`Layout::settle`].
#[derive(Debug)]
#[must_use = "the buffer is not complete before `settle`"]
pub struct Filled {
    /// How many bytes of the buffer are inside the image.
    pub len: usize,
    late: Vec<LateProof>,
}

impl Filled {
    /// The lowest offset of the pages that a missing checksum depends on. `None` if nothing is
    /// missing.
    pub fn depends_from(&self) -> Option<u64> {
        self.late.iter().map(|late| late.depends_from).min()
    }
}

/// A footer, or the trailer, with a CRC that is not known yet.
#[derive(Clone, Copy, Debug)]
struct LateProof {
    what: Proof,
    at: u64,
    depends_from: u64,
}

#[derive(Clone, Copy, Debug)]
enum Proof {
    Footer { segment: usize, k: u64 },
    Trailer,
}

impl Layout {
    pub(super) fn new(header: Header, segments: Vec<LayoutSegment>, trailer_at: u64, checksums: Checksums) -> Layout {
        Layout { header, segments, trailer_at, checksums, trailer: OnceLock::new() }
    }

    /// Bytes of the whole image.
    pub fn len(&self) -> u64 {
        self.header.total
    }

    /// Whether the image holds no record: header and trailer alone.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The image's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        self.segments.iter().enumerate().filter_map(|(index, segment)| match segment {
            LayoutSegment::Pages(_) => None,
            LayoutSegment::Record { frame, .. } => Some(RecordView {
                tag: frame.tag,
                json: frame.json(),
                blob: frame.blob(),
                pages: match self.segments.get(index + 1) {
                    Some(LayoutSegment::Pages(list)) => Some((list.source, &list.runs)),
                    _ => None,
                },
            }),
        })
    }

    /// Reads the bytes of the image from `offset` on into `buf`, fewer only at the image's end. The
    /// bytes are the same however often and in whatever order they are read. A pass from front to
    /// back reads every page once. Reading the footer of an unread chunk reads that chunk. Reading
    /// the trailer reads all unread chunks.
    pub fn read_at(&self, pages: &dyn PageSource, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let filled = self.fill(pages, offset, buf)?;
        let len = filled.len;
        self.settle(pages, offset, buf, filled)?;
        Ok(len)
    }

    /// The first half of [`Layout::read_at`]: everything but the checksums that are not known yet.
    /// Several threads that read neighbouring blocks fill them in parallel and settle them in
    /// order, so that no thread reads pages for another.
    pub fn fill(&self, pages: &dyn PageSource, offset: u64, buf: &mut [u8]) -> Result<Filled> {
        let len = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut window = Window::new(offset, &mut buf[..len]);
        let mut late = Vec::new();
        window.put(0, &self.header.encode());
        let first = self.segments.partition_point(|segment| segment.end() <= offset);
        for (index, segment) in self.segments.iter().enumerate().skip(first) {
            if segment.at() >= window.end() {
                break;
            }
            match segment {
                LayoutSegment::Record { at, frame } => frame.fill(pages, *at, &mut window)?,
                LayoutSegment::Pages(list) => self.fill_list(pages, index, list, &mut window, &mut late)?,
            }
        }
        if window.end() > self.trailer_at {
            match self.trailer.get() {
                Some(trailer) => window.put(self.trailer_at, trailer),
                None => late.push(LateProof { what: Proof::Trailer, at: self.trailer_at, depends_from: 0 }),
            }
        }
        Ok(Filled { len, late })
    }

    /// The second half of [`Layout::read_at`]: the checksums that `fill` did not know. It reads the
    /// pages of those that are still unknown.
    pub fn settle(&self, pages: &dyn PageSource, offset: u64, buf: &mut [u8], filled: Filled) -> Result<()> {
        let mut window = Window::new(offset, &mut buf[..filled.len]);
        for late in filled.late {
            match late.what {
                Proof::Trailer => window.put(late.at, self.trailer(pages)?),
                Proof::Footer { segment, k } => {
                    if let LayoutSegment::Pages(list) = &self.segments[segment] {
                        window.put(late.at, &list.footer(k, self.content_crc(pages, list, k)?));
                    }
                }
            }
        }
        Ok(())
    }

    fn fill_list(
        &self,
        pages: &dyn PageSource,
        segment: usize,
        list: &PageList,
        window: &mut Window<'_>,
        late: &mut Vec<LateProof>,
    ) -> Result<()> {
        let mut k = list.chunk_of(window.at().max(list.head_at(0)));
        while k < list.chunks() && list.head_at(k) < window.end() {
            let (chunk, content_at, content_len) =
                (list.first_chunk + k as usize, list.content_at(k), list.content_len(k));
            if window.at() < content_at {
                window.put(list.head_at(k), &list.head(k));
                window.zero(list.head_at(k) + list.head_len(k), content_at);
            }
            if let Some((from, bytes)) = window.part(content_at, content_len) {
                list.read(pages, k, from, bytes)?;
                self.checksums.note(chunk, content_len, from, bytes);
            }
            let at = list.footer_at(k);
            if window.part(at, FOOTER_LEN as u64).is_some() {
                match self.checksums.get(chunk) {
                    Some(crc) => window.put(at, &list.footer(k, crc)),
                    None => late.push(LateProof { what: Proof::Footer { segment, k }, at, depends_from: content_at }),
                }
            }
            k += 1;
        }
        if k == list.chunks() {
            window.put(list.head_at(k), &list.head(k));
        }
        Ok(())
    }

    /// The CRC of the pages of chunk `k`. Reads those of its pages that were not read before.
    fn content_crc(&self, pages: &dyn PageSource, list: &PageList, k: u64) -> Result<u32> {
        let (chunk, len) = (list.first_chunk + k as usize, list.content_len(k));
        let mut scratch = Vec::new();
        let mut at = 0;
        while at < len && self.checksums.get(chunk).is_none() {
            let gap_end = match self.checksums.next_part(chunk, at) {
                Some((from, upto)) if from <= at => {
                    at = upto;
                    continue;
                }
                Some((from, _)) => from,
                None => len,
            };
            scratch.resize((gap_end - at).min(SCRATCH) as usize, 0);
            list.read(pages, k, at, &mut scratch)?;
            self.checksums.note(chunk, len, at, &scratch);
            at += scratch.len() as u64;
        }
        if let Some(crc) = self.checksums.get(chunk) {
            return Ok(crc);
        }
        // Other readers have displaced the parts of this chunk, so it needs a whole pass.
        let mut crc = crc::EMPTY;
        for at in (0..len).step_by(SCRATCH as usize) {
            scratch.resize((len - at).min(SCRATCH) as usize, 0);
            list.read(pages, k, at, &mut scratch)?;
            crc = crc::extend(crc, &scratch);
        }
        Ok(crc)
    }

    fn trailer(&self, pages: &dyn PageSource) -> Result<&[u8]> {
        if let Some(trailer) = self.trailer.get() {
            return Ok(trailer);
        }
        let mut digest = Digest::default();
        for segment in &self.segments {
            match segment {
                LayoutSegment::Record { frame, .. } => digest.record(&frame.bytes[24..FRAME_LEN]),
                LayoutSegment::Pages(list) => {
                    for k in 0..list.chunks() {
                        digest.chunk(self.content_crc(pages, list, k)?, &list.head(k)[24..FRAME_LEN]);
                    }
                    digest.chunk(crc::EMPTY, &list.head(list.chunks())[24..FRAME_LEN]);
                }
            }
        }
        let trailer = digest.trailer().encode()?;
        Ok(self.trailer.get_or_init(|| trailer))
    }
}

impl LayoutSegment {
    fn at(&self) -> u64 {
        match self {
            LayoutSegment::Record { at, .. } => *at,
            LayoutSegment::Pages(list) => list.head_at(0),
        }
    }

    fn end(&self) -> u64 {
        match self {
            LayoutSegment::Record { at, frame } => at + frame.len(),
            LayoutSegment::Pages(list) => list.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::fake::{FakePages, layout};

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
}

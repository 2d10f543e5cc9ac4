//! The bytes of an image at any offset: from records kept here, from pages read on demand.

use std::sync::OnceLock;

use crate::error::Result;
use crate::image::checksums::Checksums;
use crate::image::crc;
use crate::image::format::{FOOTER_LEN, FRAME_LEN, Header};
use crate::image::mac_tree::MacTree;
use crate::image::page_list::PageList;
use crate::image::page_source::PageSource;
use crate::image::record_frame::RecordFrame;
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
    /// What is known of the MAC, if the image is signed.
    mac: Option<MacTree>,
    trailer: OnceLock<Vec<u8>>,
}

/// What lies between header and trailer, ascending.
#[derive(Debug)]
pub(super) enum LayoutSegment {
    Record { at: u64, frame: RecordFrame },
    Pages(PageList),
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

/// What depends on a checksum that is not known yet.
#[derive(Clone, Copy, Debug)]
enum LateProof {
    /// The footer of chunk `k` of the list that is this segment.
    Footer {
        segment: usize,
        k: u64,
    },
    Trailer,
}

impl Layout {
    pub(super) fn new(
        header: Header,
        segments: Vec<LayoutSegment>,
        trailer_at: u64,
        checksums: Checksums,
        mac: Option<MacTree>,
    ) -> Layout {
        Layout { header, segments, trailer_at, checksums, mac, trailer: OnceLock::new() }
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
                tag: frame.tag(),
                json: frame.json(),
                blob: frame.blob(),
                pages: self.list(index + 1).map(|list| (list.source, &list.runs)),
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
                None => late.push(LateProof::Trailer),
            }
        }
        Ok(Filled { len, late })
    }

    /// The second half of [`Layout::read_at`]: the checksums that `fill` did not know. It reads the
    /// pages of those that are still unknown.
    pub fn settle(&self, pages: &dyn PageSource, offset: u64, buf: &mut [u8], filled: Filled) -> Result<()> {
        let buf = &mut buf[..filled.len];
        self.settle_footers(pages, offset, buf, &filled)?;
        // The MAC of the trailer covers these bytes, so they come first.
        if let (Some(mac), None) = (&self.mac, self.trailer.get()) {
            mac.note(offset, buf);
        }
        if filled.late.iter().any(|late| matches!(late, LateProof::Trailer)) {
            Window::new(offset, buf).put(self.trailer_at, self.trailer(pages)?);
        }
        Ok(())
    }

    /// The lowest offset of the pages that a missing checksum depends on. `None` if nothing is
    /// missing.
    pub fn depends_from(&self, filled: &Filled) -> Option<u64> {
        let depends_from = |late: &LateProof| match late {
            LateProof::Footer { segment, k } => self.list(*segment).map_or(0, |list| list.content_at(*k)),
            LateProof::Trailer => 0,
        };
        filled.late.iter().map(depends_from).min()
    }

    fn list(&self, segment: usize) -> Option<&PageList> {
        match self.segments.get(segment) {
            Some(LayoutSegment::Pages(list)) => Some(list),
            _ => None,
        }
    }

    /// Completes all but the trailer.
    fn settle_footers(&self, pages: &dyn PageSource, offset: u64, buf: &mut [u8], filled: &Filled) -> Result<()> {
        let mut window = Window::new(offset, buf);
        for late in &filled.late {
            if let LateProof::Footer { segment, k } = *late
                && let Some(list) = self.list(segment)
            {
                window.put(list.footer_at(k), &list.footer(k, self.content_crc(pages, list, k)?));
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
                    None => late.push(LateProof::Footer { segment, k }),
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
        // The MAC first: it reads what is missing front to back, and no page is read twice.
        let mac = self.mac.as_ref().map(|mac| {
            mac.mac(&mut |at, buf| {
                let filled = self.fill(pages, at, buf)?;
                self.settle_footers(pages, at, buf, &filled)
            })
        });
        let mac = mac.transpose()?;
        let mut digest = Digest::default();
        for segment in &self.segments {
            match segment {
                LayoutSegment::Record { frame, .. } => digest.record(&frame.head()[24..]),
                LayoutSegment::Pages(list) => {
                    for k in 0..list.chunks() {
                        digest.chunk(self.content_crc(pages, list, k)?, &list.head(k)[24..FRAME_LEN]);
                    }
                    digest.chunk(crc::EMPTY, &list.head(list.chunks())[24..FRAME_LEN]);
                }
            }
        }
        let trailer = digest.trailer().with_mac(mac).encode()?;
        let trailer = self.trailer.get_or_init(|| trailer);
        self.mac.iter().for_each(MacTree::forget);
        Ok(trailer)
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
mod tests;

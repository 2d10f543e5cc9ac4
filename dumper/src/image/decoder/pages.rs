//! The pages of a chunk on their way through the decoder: addresses, padding, contents, footer.

use crate::error::{Error, Result};
use crate::image::crc;
use crate::image::decoder::page_contents::{PageContents, wrong_crc};
use crate::image::decoder::sink::Sink;
use crate::image::decoder::{Decoder, DecoderState};
use crate::image::format::{FOOTER_LEN, FRAME_LEN, HEADER_LEN, PAGE_SIZE, padded, u32_at, u64_at};
use crate::image::frame::ChunkHeader;

/// What follows in an input that is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// The current struct is complete after this many bytes (never 0; between structs, some bytes
    /// of the next one).
    Bytes(u64),
    /// This many bytes of whole pages follow. [`Decoder::skip_pages`] can skip them.
    Pages(u64),
}

/// Pages that were skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedPages {
    /// Offset in the input of the first one; the others follow it.
    pub at: u64,
    /// Their addresses.
    pub addresses: Vec<u64>,
}

impl Decoder {
    pub(super) fn addresses(&mut self, header: ChunkHeader) -> Result<()> {
        let at = self.image.frame_at + FRAME_LEN as u64;
        let bytes = std::mem::take(&mut self.feed.held);
        if header.address_crc != crc::of(&bytes) {
            return Err(Error::damaged(format!("offset {at}: the CRC of a chunk's addresses does not hold")));
        }
        let addresses: Vec<u64> = (0..header.pages).map(|index| u64_at(&bytes, index * 8)).collect();
        let mut last = self.image.list.flatten();
        for (index, address) in addresses.iter().enumerate() {
            let wrong = match last {
                _ if !address.is_multiple_of(PAGE_SIZE) => "is not page-aligned",
                Some(last) if *address <= last => "does not ascend",
                _ => {
                    last = Some(*address);
                    continue;
                }
            };
            return Err(Error::damaged(format!("offset {}: page address {address:#x} {wrong}", at + index as u64 * 8)));
        }
        self.image.list = Some(last);
        let contents = PageContents { header, addresses, done: 0, crc: crc::EMPTY, skipped: false };
        self.state = match self.to_page_boundary(0) {
            0 => DecoderState::Contents(contents),
            _ => DecoderState::Padding(contents),
        };
        Ok(())
    }

    pub(super) fn padding(&mut self, contents: PageContents, input: &mut &[u8]) -> Result<()> {
        let left = self.to_page_boundary(0);
        let len = input.len().min(left as usize);
        if let Some(index) = input[..len].iter().position(|byte| *byte != 0) {
            let at = self.feed.offset + index as u64;
            return Err(Error::damaged(format!("offset {at}: the padding before a chunk's pages is not zero")));
        }
        self.feed.take(input, len);
        self.state =
            if len as u64 == left { DecoderState::Contents(contents) } else { DecoderState::Padding(contents) };
        Ok(())
    }

    /// Delivers whole pages, borrowed from the input. A page that is cut by the end of a slice is
    /// put together first.
    pub(super) fn contents(
        &mut self,
        mut contents: PageContents,
        input: &mut &[u8],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let page = PAGE_SIZE as usize;
        let whole = (input.len() / page).min(contents.addresses.len() - contents.done);
        if self.feed.held.is_empty() && whole > 0 {
            let bytes = self.feed.take(input, whole * page);
            contents.deliver(bytes, sink).map_err(|error| self.with_offset(error))?;
        } else if self.feed.gather(input, page) {
            contents.deliver(&self.feed.held, sink).map_err(|error| self.with_offset(error))?;
            self.feed.held.clear();
        }
        let complete = contents.done == contents.addresses.len();
        self.state = if complete { DecoderState::Footer(contents) } else { DecoderState::Contents(contents) };
        Ok(())
    }

    /// What follows, for a caller that can continue at any offset of the input.
    pub fn ahead(&self) -> Ahead {
        let held = self.feed.held.len();
        let missing = |len: usize| Ahead::Bytes(len.saturating_sub(held) as u64);
        match &self.state {
            DecoderState::Between | DecoderState::Magic | DecoderState::Header => missing(HEADER_LEN),
            DecoderState::Frame => missing(FRAME_LEN),
            DecoderState::Json(header) => missing(header.body_len()),
            DecoderState::Blob(header, _) => missing(padded(header.blob_len)),
            DecoderState::Addresses(header) => {
                let missing = (header.pages * 8 - held) as u64;
                Ahead::Bytes(missing + self.to_page_boundary(missing))
            }
            DecoderState::Padding(_) => Ahead::Bytes(self.to_page_boundary(0)),
            DecoderState::Contents(contents) if held > 0 || contents.done > 0 => missing(PAGE_SIZE as usize),
            DecoderState::Contents(contents) => Ahead::Pages(contents.addresses.len() as u64 * PAGE_SIZE),
            DecoderState::Footer(_) => missing(FOOTER_LEN),
        }
    }

    /// Skips the pages that follow ([`Ahead::Pages`]) without their bytes. The caller must check
    /// them against their CRC. `None` if no pages follow, if the input, which has `left` more
    /// bytes, ends inside them, or if this decoder verifies a signature, for which it needs them.
    pub fn skip_pages(&mut self, left: u64) -> Option<SkippedPages> {
        let Ahead::Pages(len) = self.ahead() else { return None };
        if self.is_verifying() {
            return None;
        }
        let at = self.feed.offset;
        self.feed.offset += len.min(left);
        let DecoderState::Contents(contents) = &mut self.state else { return None };
        if left < len {
            return None;
        }
        contents.done = contents.addresses.len();
        contents.skipped = true;
        let addresses = contents.addresses.clone();
        if let DecoderState::Contents(contents) = std::mem::replace(&mut self.state, DecoderState::Between) {
            self.state = DecoderState::Footer(contents);
        }
        Some(SkippedPages { at, addresses })
    }

    pub(super) fn footer(&mut self, mut contents: PageContents) -> Result<()> {
        let at = self.feed.offset - FOOTER_LEN as u64;
        let crc = u32_at(&self.feed.held, 0);
        if contents.skipped {
            contents.crc = crc;
        }
        if crc != contents.crc {
            return Err(wrong_crc(at, contents.addresses.first().copied().unwrap_or_default()));
        }
        if u32_at(&self.feed.held, 4) as usize != contents.header.pages {
            return Err(Error::damaged(format!("offset {}: a chunk's two counts of pages differ", at + 4)));
        }
        self.feed.held.clear();
        self.image.digest.chunk(contents.crc, &contents.header.crcs);
        self.begin_frame()
    }
}

//! Decodes images as their bytes arrive, in slices cut anywhere, in constant memory.
//!
//! No number in the input is trusted. Lengths are checked against their ceilings and against the
//! image's total before anything is allocated, and memory for a record grows only as its bytes
//! arrive. Pages go to the sink as they arrive, before the CRC behind them. So a sink must be able
//! to undo, and only [`Sink::end`] means that the image was whole.

mod feed;
pub mod page_contents;
pub mod pages;
pub mod sink;
mod trailer;

use blake3::Hash;

use crate::error::{Error, Kind, Result};
use crate::image::crc;
use crate::image::decoder::feed::Feed;
use crate::image::decoder::page_contents::PageContents;
use crate::image::decoder::sink::Sink;
use crate::image::format::{
    FOOTER_LEN, FRAME_LEN, HEADER_LEN, Header, MAGIC, PAGE_SIZE, SIGNED_TAG, TRAILER_TAG, check_magic, padded,
};
use crate::image::frame::{self, ChunkHeader, FrameHeader, Record, RecordHeader};
use crate::image::signature;
use crate::image::trailer::Digest;
use crate::key::Key;

/// Decodes the images of one input.
#[derive(Debug)]
pub struct Decoder {
    feed: Feed,
    images: u64,
    state: DecoderState,
    image: ImageState,
    failure: Option<Error>,
}

/// The image that is being decoded.
#[derive(Debug, Default)]
struct ImageState {
    /// Offset in the input of its first byte.
    start: u64,
    total: u64,
    digest: Digest,
    /// The MAC of all before the trailer, if it is to be verified and the trailer has begun.
    mac: Option<Hash>,
    /// Offset in the input of the current frame.
    frame_at: u64,
    /// The last address of the open list of pages, if a list is open.
    list: Option<Option<u64>>,
}

#[derive(Debug, Default)]
enum DecoderState {
    /// Before the first image, or behind a trailer. Zeros are allowed here.
    #[default]
    Between,
    Magic,
    Header,
    Frame,
    Json(RecordHeader),
    Blob(RecordHeader, Vec<u8>),
    Addresses(ChunkHeader),
    Padding(PageContents),
    Contents(PageContents),
    Footer(PageContents),
}

impl Decoder {
    /// A decoder at the beginning of an input. With a `key` it refuses every image that is not
    /// signed with it ([`Kind::KeyRejected`]): one without a signature before its first record
    /// reaches the sink, one with a wrong signature before [`Sink::end`].
    pub fn new(key: Option<&Key>) -> Decoder {
        let (state, image) = (DecoderState::default(), ImageState::default());
        Decoder { feed: Feed::new(key), images: 0, state, image, failure: None }
    }

    /// Whether it refuses images that are not signed.
    pub(super) fn is_verifying(&self) -> bool {
        self.feed.is_hashing()
    }

    /// Bytes of the input taken so far.
    pub fn offset(&self) -> u64 {
        self.feed.offset
    }

    /// Whether the input may end here: nothing has begun, or the last image is complete.
    pub fn is_complete(&self) -> bool {
        self.failure.is_none() && matches!(self.state, DecoderState::Between)
    }

    /// Where in the input the current image ends, once its header is decoded.
    pub fn end(&self) -> Option<u64> {
        let is_known = self.failure.is_none()
            && !matches!(self.state, DecoderState::Between | DecoderState::Magic | DecoderState::Header);
        is_known.then(|| self.image.start + self.image.total)
    }

    /// Checks that the input may end here.
    pub fn finish(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let (offset, start, total) = (self.feed.offset, self.image.start, self.image.total);
        match self.state {
            DecoderState::Between => Ok(()),
            DecoderState::Magic if !MAGIC.starts_with(&self.feed.held) => self.check_magic(&self.feed.held),
            DecoderState::Magic | DecoderState::Header => {
                Err(Error::damaged(format!("offset {offset}: the image is truncated inside its header")))
            }
            _ => Err(Error::damaged(format!(
                "offset {offset}: the image is truncated: {} of {total} bytes are there",
                offset - start
            ))),
        }
    }

    /// Takes the next bytes. Whatever they complete reaches `sink` before this returns. After an
    /// error every further call returns the same error.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut input = bytes;
        while !input.is_empty() {
            if let Err(error) = self.step(&mut input, sink) {
                self.failure = Some(error.clone());
                self.feed.held = Vec::new();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes bytes from `input` until it is empty or the state changes.
    fn step(&mut self, input: &mut &[u8], sink: &mut dyn Sink) -> Result<()> {
        // A state that is not complete puts itself back.
        match std::mem::replace(&mut self.state, DecoderState::Between) {
            DecoderState::Between => {
                let zeros = match self.images {
                    0 => 0,
                    _ => input.iter().take_while(|byte| **byte == 0).count(),
                };
                self.feed.take(input, zeros);
                if !input.is_empty() {
                    self.image = ImageState { start: self.feed.offset, ..ImageState::default() };
                    self.state = DecoderState::Magic;
                }
            }
            DecoderState::Magic => {
                if self.feed.gather(input, MAGIC.len()) {
                    self.check_magic(&self.feed.held)?;
                    self.state = DecoderState::Header;
                } else {
                    self.state = DecoderState::Magic;
                }
            }
            DecoderState::Header => {
                self.state = DecoderState::Header;
                if let Some(bytes) = self.feed.gather_array::<HEADER_LEN>(input) {
                    let header = Header::decode(&bytes, self.image.start)?;
                    self.image.total = header.total;
                    self.feed.begin_hash(&bytes);
                    sink.header(&header).map_err(|error| self.with_offset(error))?;
                    self.begin_frame()?;
                }
            }
            DecoderState::Frame => {
                self.state = DecoderState::Frame;
                if let Some(bytes) = self.feed.gather_array::<FRAME_LEN>(input) {
                    self.frame(&bytes, sink)?;
                }
            }
            DecoderState::Json(header) => {
                if self.feed.gather(input, padded(header.json_len)) {
                    let json = std::mem::take(&mut self.feed.held);
                    self.state = DecoderState::Blob(header, json);
                    if header.blob_len == 0 {
                        self.step(&mut &[][..], sink)?;
                    }
                } else {
                    self.state = DecoderState::Json(header);
                }
            }
            DecoderState::Blob(header, json) => {
                if self.feed.gather(input, padded(header.blob_len)) {
                    let blob = std::mem::take(&mut self.feed.held);
                    self.record(header, json, blob, sink)?;
                } else {
                    self.state = DecoderState::Blob(header, json);
                }
            }
            DecoderState::Addresses(header) => {
                if self.feed.gather(input, header.pages * 8) {
                    self.addresses(header)?;
                } else {
                    self.state = DecoderState::Addresses(header);
                }
            }
            DecoderState::Padding(contents) => self.padding(contents, input)?,
            DecoderState::Contents(contents) => self.contents(contents, input, sink)?,
            DecoderState::Footer(contents) => {
                if self.feed.gather(input, FOOTER_LEN) {
                    self.footer(contents)?;
                } else {
                    self.state = DecoderState::Footer(contents);
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8; FRAME_LEN], sink: &mut dyn Sink) -> Result<()> {
        let at = self.image.frame_at;
        let ordinal = self.image.digest.frames();
        let header = frame::decode(bytes, ordinal, at)?;
        if self.is_verifying() && ordinal == 0 && !header.has_tag(SIGNED_TAG) {
            return Err(signature::not_signed(at));
        }
        if header.has_tag(TRAILER_TAG) {
            self.image.mac = self.feed.mac();
        } else {
            self.feed.hash(bytes);
        }
        let body_len = match &header {
            FrameHeader::Record(record) => record.body_len() as u64,
            FrameHeader::Chunk(ChunkHeader { pages: 0, .. }) => 0,
            FrameHeader::Chunk(chunk) => {
                let pages = chunk.pages as u64;
                self.to_page_boundary(pages * 8) + pages * (8 + PAGE_SIZE) + FOOTER_LEN as u64
            }
        };
        if self.position() + body_len > self.image.total {
            return Err(Error::damaged(format!(
                "offset {at}: a frame of {} bytes reaches beyond the image's total of {} bytes",
                FRAME_LEN as u64 + body_len,
                self.image.total
            )));
        }
        match (header, self.image.list.is_some()) {
            (FrameHeader::Record(record), true) => Err(Error::damaged(format!(
                "offset {at}: record {} stands inside a list of pages that has no end",
                record.tag
            ))),
            (FrameHeader::Record(record), false) => {
                self.state = DecoderState::Json(record);
                // A body of no bytes completes without further input.
                if record.json_len == 0 { self.step(&mut &[][..], sink) } else { Ok(()) }
            }
            (FrameHeader::Chunk(_), false) => {
                Err(Error::damaged(format!("offset {at}: a chunk of pages that no record announced")))
            }
            (FrameHeader::Chunk(chunk), true) if chunk.pages > 0 => {
                self.state = DecoderState::Addresses(chunk);
                Ok(())
            }
            (FrameHeader::Chunk(chunk), true) => {
                if chunk.address_crc != crc::EMPTY {
                    return Err(Error::damaged(format!("offset {}: the CRC of no addresses is not 0", at + 24)));
                }
                self.image.digest.chunk(crc::EMPTY, &chunk.crcs);
                self.image.list = None;
                sink.end_of_pages().map_err(|error| self.with_offset(error))?;
                self.begin_frame()
            }
        }
    }

    fn record(
        &mut self,
        header: RecordHeader,
        mut json: Vec<u8>,
        mut blob: Vec<u8>,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let body_at = self.image.frame_at + FRAME_LEN as u64;
        if header.body_crc != crc::extend(crc::of(&json), &blob) {
            return Err(Error::damaged(format!("offset {body_at}: the CRC of record {} does not hold", header.tag)));
        }
        let paddings = [&json[header.json_len..], &blob[header.blob_len..]];
        if paddings.iter().any(|padding| padding.iter().any(|byte| *byte != 0)) {
            return Err(Error::damaged(format!("offset {body_at}: the padding of record {} is not zero", header.tag)));
        }
        json.truncate(header.json_len);
        blob.truncate(header.blob_len);
        let (tag, optional, pages) = (header.tag, header.optional, header.pages);
        let record = Record { tag, optional, pages, json, blob };
        if header.is_trailer() {
            return self.trailer(&record, sink);
        }
        if self.is_verifying() && self.image.digest.frames() == 0 {
            signature::check_signed(&record).map_err(|error| error.on(format!("offset {body_at}")))?;
        }
        self.image.digest.record(&header.crcs);
        self.image.list = pages.then_some(None);
        sink.record(record).map_err(|error| self.with_offset(error))?;
        self.begin_frame()
    }

    /// Checks that a frame may begin here.
    fn begin_frame(&mut self) -> Result<()> {
        self.image.frame_at = self.feed.offset;
        self.state = DecoderState::Frame;
        if self.position() + FRAME_LEN as u64 > self.image.total {
            return Err(Error::damaged(format!(
                "offset {}: the image should end at {} bytes, but no trailer stands there",
                self.feed.offset, self.image.total
            )));
        }
        Ok(())
    }

    /// Bytes of the current image so far.
    fn position(&self) -> u64 {
        self.feed.offset - self.image.start
    }

    /// Bytes from `ahead` bytes on up to the next place for pages.
    fn to_page_boundary(&self, ahead: u64) -> u64 {
        let position = self.position() + ahead;
        position.next_multiple_of(PAGE_SIZE) - position
    }

    /// Adds the offset if a sink reports damage. Any other failure does not depend on the place.
    fn with_offset(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Damaged => error.on(format!("offset {}", self.image.frame_at)),
            _ => error,
        }
    }

    fn check_magic(&self, bytes: &[u8]) -> Result<()> {
        let start = self.image.start;
        check_magic(bytes, start).map_err(|error| match self.images {
            0 => error,
            _ => Error::damaged(format!("offset {start}: neither zeros nor an image stand behind a complete image")),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::frame::Tag;

    /// Refuses every record.
    struct Refusing(Kind);

    impl Sink for Refusing {
        fn header(&mut self, _: &Header) -> Result<()> {
            Ok(())
        }
        fn record(&mut self, _: Record) -> Result<()> {
            Err(Error::new(self.0, "no"))
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

    fn beginning() -> Vec<u8> {
        let record = Record::new(Tag(*b"TEST"), &1).unwrap();
        [Header::new(4096, 0, 0).encode().as_slice(), &record.encode(0)].concat()
    }

    #[test]
    fn a_refusal_of_the_sink_stays_and_damage_names_the_offset() {
        for (kind, sentence) in [(Kind::Damaged, "offset 64: no"), (Kind::PidTaken, "no")] {
            let mut decoder = Decoder::new(None);
            for _ in 0..2 {
                let error = decoder.push(&beginning(), &mut Refusing(kind)).unwrap_err();
                assert_eq!((error.kind(), error.to_string().as_str()), (kind, sentence));
            }
            assert!(!decoder.is_complete());
            assert_eq!(decoder.finish().unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn nothing_is_complete_and_a_beginning_is_not() {
        let mut decoder = Decoder::new(None);
        assert!(decoder.is_complete() && decoder.finish().is_ok());
        decoder.push(&beginning()[..70], &mut Refusing(Kind::Damaged)).unwrap();
        assert!(!decoder.is_complete());
        assert_eq!(decoder.offset(), 70);
        let sentence = decoder.finish().unwrap_err().to_string();
        assert_eq!(sentence, "offset 70: the image is truncated: 70 of 4096 bytes are there");
    }

    #[test]
    fn a_few_bytes_of_something_else_are_not_a_truncated_image() {
        let mut decoder = Decoder::new(None);
        decoder.push(b"GIF", &mut Refusing(Kind::Damaged)).unwrap();
        assert!(decoder.finish().unwrap_err().to_string().contains("not a ckptfs image"));
    }
}

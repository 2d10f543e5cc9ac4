//! Frames: a record (a JSON object and a blob under a tag) and the header of a chunk of pages.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::image::crc;
use crate::image::format::{
    CHUNK_TAG, FRAME_LEN, MAX_BLOB, MAX_JSON, MAX_PAGES, OPTIONAL, PAGES, SIGNED_TAG, TRAILER_TAG, padded, u32_at,
    u64_at,
};

/// What a record is about: four printable ASCII bytes. The higher floors give them their meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub [u8; 4]);

impl Tag {
    pub(super) fn is_printable(self) -> bool {
        self.0.iter().all(u8::is_ascii_graphic)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` and not `write`, because tables give a width.
        f.pad(&self.0.escape_ascii().to_string())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// One object of the image, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub tag: Tag,
    /// A reader that does not know the tag may skip it.
    pub optional: bool,
    /// A list of pages follows.
    pub pages: bool,
    /// A JSON object.
    pub json: Vec<u8>,
    /// Bytes that are better not written as JSON; may be empty.
    pub blob: Vec<u8>,
}

/// The length of a blob, and the checksum of it with its padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobSum {
    pub(super) len: usize,
    crc: u32,
}

impl BlobSum {
    /// That of `blob`.
    pub(crate) fn of(blob: &[u8]) -> BlobSum {
        let len = blob.len();
        let padding = [0; 8];
        BlobSum { len, crc: crc::extend(crc::of(blob), &padding[..padded(len) - len]) }
    }
}

impl Record {
    /// A record with `body` as its JSON: must-understand, no blob, no pages.
    pub fn new<T: Serialize>(tag: Tag, body: &T) -> Result<Record> {
        let json = serde_json::to_vec(body)
            .map_err(|error| Error::unsupported(format!("record {tag} cannot be written as JSON: {error}")))?;
        Ok(Record { tag, optional: false, pages: false, json, blob: Vec::new() })
    }

    /// The same with a blob.
    #[must_use]
    pub fn with_blob(self, blob: Vec<u8>) -> Record {
        Record { blob, ..self }
    }

    /// The same, followed by a list of pages.
    #[must_use]
    pub fn opens_pages(self) -> Record {
        Record { pages: true, ..self }
    }

    /// The same, but a reader that does not know the tag may skip it.
    #[must_use]
    pub fn optional(self) -> Record {
        Record { optional: true, ..self }
    }

    /// Whether it is the record that begins a signed image. It describes no object, and signs
    /// nothing at another place.
    pub fn is_signature(&self) -> bool {
        self.tag.0 == SIGNED_TAG
    }

    /// The JSON as `T`. A body that is not a `T` is damage; the sentence says which field.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T> {
        body(self.tag, &self.json)
    }

    /// Refuses a record that no reader would accept. `blob_len` is the length of its blob.
    pub(super) fn check(&self, blob_len: usize) -> Result<()> {
        let tag = self.tag;
        if !tag.is_printable() || [CHUNK_TAG, SIGNED_TAG, TRAILER_TAG].contains(&tag.0) {
            return Err(Error::unsupported(format!(
                "record {tag}: the tag is reserved, or is not four printable bytes"
            )));
        }
        for (what, len, ceiling) in [("JSON", self.json.len(), MAX_JSON), ("blob", blob_len, MAX_BLOB)] {
            if len > ceiling {
                return Err(Error::unsupported(format!(
                    "record {tag}: {len} bytes of {what} are over the format's ceiling of {ceiling}"
                )));
            }
        }
        Ok(())
    }

    /// The frame up to its blob, which is kept elsewhere.
    pub(super) fn encode_before(&self, blob: BlobSum, ordinal: u64) -> Vec<u8> {
        let json_end = FRAME_LEN + self.json.len();
        let mut bytes = vec![0; FRAME_LEN + padded(self.json.len())];
        bytes[FRAME_LEN..json_end].copy_from_slice(&self.json);
        let (head, body) = bytes.split_at_mut(FRAME_LEN);
        let crc = crc::join(crc::of(body), blob.crc, padded(blob.len) as u64);
        head.copy_from_slice(&header(self.tag.0, self.flags(), self.json.len() as u32, blob.len as u32, ordinal, crc));
        bytes
    }

    fn flags(&self) -> u32 {
        let optional = if self.optional { OPTIONAL } else { 0 };
        optional | if self.pages { PAGES } else { 0 }
    }

    /// The frame: header and body.
    pub(super) fn encode(&self, ordinal: u64) -> Vec<u8> {
        let (json_end, blob_at) = (FRAME_LEN + self.json.len(), FRAME_LEN + padded(self.json.len()));
        let mut bytes = vec![0; blob_at + padded(self.blob.len())];
        bytes[FRAME_LEN..json_end].copy_from_slice(&self.json);
        bytes[blob_at..blob_at + self.blob.len()].copy_from_slice(&self.blob);
        let (head, body) = bytes.split_at_mut(FRAME_LEN);
        let lens = (self.json.len() as u32, self.blob.len() as u32);
        head.copy_from_slice(&header(self.tag.0, self.flags(), lens.0, lens.1, ordinal, crc::of(body)));
        bytes
    }
}

/// The JSON of a record `tag` as `T`.
pub(super) fn body<T: DeserializeOwned>(tag: Tag, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::damaged(format!("record {tag}: the body is not understood: {error}")))
}

/// A frame's header, decoded; lengths are within their ceilings.
#[derive(Clone, Copy, Debug)]
pub(super) enum FrameHeader {
    Record(RecordHeader),
    Chunk(ChunkHeader),
}

impl FrameHeader {
    pub(super) fn has_tag(&self, tag: [u8; 4]) -> bool {
        matches!(self, FrameHeader::Record(record) if record.tag.0 == tag)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHeader {
    pub tag: Tag,
    pub optional: bool,
    pub pages: bool,
    pub json_len: usize,
    pub blob_len: usize,
    pub body_crc: u32,
    /// Bytes 24..32, as the digest takes them.
    pub crcs: [u8; 8],
}

impl RecordHeader {
    pub(super) fn is_trailer(&self) -> bool {
        self.tag.0 == TRAILER_TAG
    }

    pub(super) fn body_len(&self) -> usize {
        padded(self.json_len) + padded(self.blob_len)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkHeader {
    pub pages: usize,
    pub address_crc: u32,
    /// Bytes 24..32, as the digest takes them.
    pub crcs: [u8; 8],
}

/// A chunk's header and its addresses, without the padding.
pub(super) fn encode_chunk(addresses: &[u64], ordinal: u64) -> Vec<u8> {
    let pages = addresses.len() as u32;
    let mut bytes = Vec::with_capacity(FRAME_LEN + addresses.len() * 8);
    bytes.resize(FRAME_LEN, 0);
    for address in addresses {
        bytes.extend_from_slice(&address.to_le_bytes());
    }
    let address_crc = crc::of(&bytes[FRAME_LEN..]);
    bytes[..FRAME_LEN].copy_from_slice(&header(CHUNK_TAG, 0, pages, 0, ordinal, address_crc));
    bytes
}

fn header(tag: [u8; 4], flags: u32, first_len: u32, second_len: u32, ordinal: u64, body_crc: u32) -> [u8; FRAME_LEN] {
    let mut bytes = [0; FRAME_LEN];
    bytes[..4].copy_from_slice(&tag);
    bytes[4..8].copy_from_slice(&flags.to_le_bytes());
    bytes[8..12].copy_from_slice(&first_len.to_le_bytes());
    bytes[12..16].copy_from_slice(&second_len.to_le_bytes());
    bytes[16..24].copy_from_slice(&ordinal.to_le_bytes());
    bytes[24..28].copy_from_slice(&body_crc.to_le_bytes());
    let crc = crc::of(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Decodes the frame header at `offset`, which must be the `ordinal`th.
pub(super) fn decode(bytes: &[u8; FRAME_LEN], ordinal: u64, offset: u64) -> Result<FrameHeader> {
    let refuse = |at: u64, why: String| Err(Error::damaged(format!("offset {}: {why}", offset + at)));
    if u32_at(bytes, 28) != crc::of(&bytes[..28]) {
        return refuse(28, format!("the CRC of the header of frame {ordinal} does not hold"));
    }
    let tag = Tag([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if !tag.is_printable() {
        return refuse(0, format!("frame {ordinal} has the impossible tag {tag}"));
    }
    let found = u64_at(bytes, 16);
    if found != ordinal {
        return refuse(16, format!("frame {found} ({tag}) stands where frame {ordinal} should"));
    }
    let flags = u32_at(bytes, 4);
    let (first_len, second_len) = (u32_at(bytes, 8) as usize, u32_at(bytes, 12) as usize);
    let body_crc = u32_at(bytes, 24);
    let mut crcs = [0; 8];
    crcs.copy_from_slice(&bytes[24..]);
    let allowed = if tag.0 == CHUNK_TAG || tag.0 == TRAILER_TAG { 0 } else { OPTIONAL | PAGES };
    if flags & !allowed != 0 {
        return refuse(4, format!("frame {ordinal} ({tag}) has unknown flags {flags:#x}"));
    }
    if tag.0 == CHUNK_TAG {
        if first_len > MAX_PAGES {
            return refuse(8, format!("a chunk says {first_len} pages, the ceiling is {MAX_PAGES}"));
        }
        if second_len != 0 {
            return refuse(12, "a reserved field of a chunk is not zero".to_string());
        }
        return Ok(FrameHeader::Chunk(ChunkHeader { pages: first_len, address_crc: body_crc, crcs }));
    }
    if first_len > MAX_JSON {
        return refuse(8, format!("record {tag} says {first_len} bytes of JSON, the ceiling is {MAX_JSON}"));
    }
    let blob_ceiling = if tag.0 == TRAILER_TAG { 0 } else { MAX_BLOB };
    if second_len > blob_ceiling {
        return refuse(12, format!("record {tag} says a blob of {second_len} bytes, the ceiling is {blob_ceiling}"));
    }
    Ok(FrameHeader::Record(RecordHeader {
        tag,
        optional: flags & OPTIONAL != 0,
        pages: flags & PAGES != 0,
        json_len: first_len,
        blob_len: second_len,
        body_crc,
        crcs,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn head(record: &Record, ordinal: u64) -> [u8; FRAME_LEN] {
        record.encode(ordinal)[..FRAME_LEN].try_into().unwrap()
    }

    fn refusal(tag: &[u8; 4], flags: u32, first: u32, second: u32) -> String {
        decode(&header(*tag, flags, first, second, 3, 0), 3, 100).unwrap_err().to_string()
    }

    #[test]
    fn a_record_frame_is_as_drawn() {
        let record = Record::new(Tag(*b"TASK"), &serde_json::json!({"pid": 7})).unwrap().with_blob(vec![1, 2, 3]);
        let bytes = record.clone().optional().opens_pages().encode(5);
        assert_eq!(&bytes[..24], b"TASK\x03\0\0\0\x09\0\0\0\x03\0\0\0\x05\0\0\0\0\0\0\0");
        assert_eq!(&bytes[32..], b"{\"pid\":7}\0\0\0\0\0\0\0\x01\x02\x03\0\0\0\0\0");
        let FrameHeader::Record(decoded) = decode(&head(&record, 5), 5, 0).unwrap() else { panic!("not a record") };
        assert_eq!((decoded.json_len, decoded.blob_len, decoded.body_len()), (9, 3, 24));
        assert_eq!(decoded.body_crc, crc::of(&bytes[32..]));
        assert!(!decoded.optional && !decoded.pages && !decoded.is_trailer());
    }

    #[test]
    fn a_chunk_frame_is_as_drawn() {
        let bytes = encode_chunk(&[0x1000, 0x5000], 2);
        assert_eq!(bytes.len(), 48);
        assert_eq!(&bytes[..24], b"PAGE\0\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        let FrameHeader::Chunk(chunk) = decode(bytes[..32].try_into().unwrap(), 2, 0).unwrap() else { panic!() };
        assert_eq!((chunk.pages, chunk.address_crc), (2, crc::of(&bytes[32..])));
    }

    #[test]
    fn each_kind_of_damage_has_its_refusal_and_its_offset() {
        assert!(refusal(b"TASK", 4, 0, 0).contains("offset 104: frame 3 (TASK) has unknown flags 0x4"));
        assert!(refusal(b"PAGE", 1, 0, 0).contains("unknown flags"));
        assert!(refusal(b"TEND", 1, 0, 0).contains("unknown flags"));
        assert!(refusal(b"TASK", 0, u32::MAX, 0).contains("offset 108: record TASK says 4294967295 bytes of JSON"));
        assert!(refusal(b"TASK", 0, 0, u32::MAX).contains("offset 112: record TASK says a blob of"));
        assert!(refusal(b"TEND", 0, 0, 1).contains("the ceiling is 0"));
        assert!(refusal(b"PAGE", 0, 257, 0).contains("offset 108: a chunk says 257 pages"));
        assert!(refusal(b"PAGE", 0, 1, 1).contains("offset 112: a reserved field"));
        assert!(refusal(b"TA\0K", 0, 0, 0).contains("offset 100: frame 3 has the impossible tag TA\\x00K"));
        let other = decode(&header(*b"TASK", 0, 0, 0, 4, 0), 3, 100).unwrap_err().to_string();
        assert!(other.contains("offset 116: frame 4 (TASK) stands where frame 3 should"));
    }

    #[test]
    fn a_record_over_a_ceiling_or_with_a_reserved_tag_is_not_written() {
        let record = Record::new(Tag(*b"TASK"), &1).unwrap();
        assert!(record.check(record.blob.len()).is_ok());
        let big = record.check(MAX_BLOB + 1).unwrap_err().to_string();
        assert!(big.contains("record TASK: 67108865 bytes of blob"));
        assert!(Record { tag: Tag(*b"PAGE"), ..record.clone() }.check(0).is_err());
        assert!(Record { tag: Tag(*b"TEND"), ..record }.check(0).is_err());
    }

    #[test]
    fn a_body_that_is_not_understood_is_damage() {
        let record = Record::new(Tag(*b"TASK"), &serde_json::json!({"pid": "x"})).unwrap();
        let error = record.body::<std::collections::BTreeMap<String, u32>>().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Damaged);
        assert!(error.to_string().starts_with("record TASK: the body is not understood"));
    }
}

//! A record of a layout: its bytes, or the place of its blob.

use crate::error::Result;
use crate::image::format::{FRAME_LEN, padded};
use crate::image::frame::{BlobSum, Record, Tag};
use crate::image::page_source::PageSource;
use crate::image::window::Window;

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

    /// What it is about.
    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Its header.
    pub(super) fn head(&self) -> &[u8] {
        &self.bytes[..FRAME_LEN]
    }

    /// Its length in the image.
    pub(super) fn len(&self) -> u64 {
        (FRAME_LEN + padded(self.json_len) + padded(self.blob_len)) as u64
    }

    /// Puts its bytes into the window. It begins at `at`.
    pub(super) fn fill(&self, pages: &dyn PageSource, at: u64, window: &mut Window<'_>) -> Result<()> {
        window.put(at, &self.bytes);
        let Some((source, begin)) = self.elsewhere else { return Ok(()) };
        let blob_at = at + self.bytes.len() as u64;
        if let Some((from, place)) = window.part(blob_at, self.blob_len as u64) {
            pages.read(source, begin + from, place)?;
        }
        window.zero(blob_at + self.blob_len as u64, at + self.len());
        Ok(())
    }

    /// Its JSON.
    pub(super) fn json(&self) -> &[u8] {
        &self.bytes[FRAME_LEN..FRAME_LEN + self.json_len]
    }

    /// Its blob. Empty, if it is kept elsewhere.
    pub(super) fn blob(&self) -> &[u8] {
        let at = FRAME_LEN + padded(self.json_len);
        self.bytes.get(at..at + self.blob_len).unwrap_or_default()
    }
}

//! The records of an image: of one that is laid out here, or of one in a file.

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::image::frame::{Record, Tag, body};
use crate::image::page_runs::PageRuns;

/// The records of one image, wherever they are.
pub trait RecordSet: Send + Sync {
    /// All, in order.
    fn records(&self) -> Box<dyn Iterator<Item = RecordView<'_>> + '_>;
}

/// One record, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// What it is about.
    pub tag: Tag,
    /// Its JSON.
    pub json: &'a [u8],
    /// Its blob. Empty for a large one of a live snapshot, which is read with the image only.
    pub blob: &'a [u8],
    /// The source of its pages and the set of them, if it opens a list.
    pub pages: Option<(usize, &'a PageRuns)>,
}

impl<'a> From<&'a Record> for RecordView<'a> {
    /// Without its pages: a single record does not name their source.
    fn from(record: &'a Record) -> Self {
        Self { tag: record.tag, json: &record.json, blob: &record.blob, pages: None }
    }
}

impl RecordView<'_> {
    /// See [`Record::body`].
    pub fn body<T: DeserializeOwned>(&self) -> Result<T> {
        body(self.tag, self.json)
    }

    /// A copy of the record. It is must-understand, because the view does not hold the OPTIONAL
    /// flag.
    pub fn to_record(&self) -> Record {
        let (json, blob) = (self.json.to_vec(), self.blob.to_vec());
        Record { tag: self.tag, optional: false, pages: self.pages.is_some(), json, blob }
    }
}

//! What receives the contents of an image.

use crate::error::Result;
use crate::image::format::Header;
use crate::image::frame::Record;

/// Who hears what is in an image. An error ends the decoding; it comes out of [`Decoder::push`](crate::image::decoder::Decoder::push).
pub trait Sink {
    /// An image begins.
    fn header(&mut self, header: &Header) -> Result<()>;
    /// A record, its CRC verified. The sink refuses a tag that it does not know unless the record is optional.
    fn record(&mut self, record: Record) -> Result<()>;
    /// Whole pages from `address` on, of the list that the last record opened. Their CRC is not verified yet.
    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()>;
    /// The list is complete.
    fn end_of_pages(&mut self) -> Result<()>;
    /// The image of `total` bytes is complete and its digest holds.
    fn end(&mut self, total: u64) -> Result<()>;
}

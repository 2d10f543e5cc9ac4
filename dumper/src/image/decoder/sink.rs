//! What receives the contents of an image.

use crate::error::Result;
use crate::image::format::Header;
use crate::image::frame::Record;

/// Receives the contents of an image in order. An error ends the decoding;
/// [`Decoder::push`](crate::image::decoder::Decoder::push) returns it.
pub trait Sink {
    /// An image begins.
    fn header(&mut self, header: &Header) -> Result<()>;
    /// A record with a verified CRC. The sink refuses an unknown tag unless the record is optional.
    fn record(&mut self, record: Record) -> Result<()>;
    /// Whole pages from `address` on, of the list that the last record opened. Their CRC is not
    /// verified yet.
    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()>;
    /// The list is complete.
    fn end_of_pages(&mut self) -> Result<()>;
    /// The image of `total` bytes is complete. Its digest is verified, and its signature if there
    /// is a key.
    fn end(&mut self, total: u64) -> Result<()>;
}

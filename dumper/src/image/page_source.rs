//! Bytes on demand: where the contents of pages come from.

use crate::error::Result;

/// Where page contents come from. The one way back to the floors above: bytes on demand, at any time until the layout
/// is dropped, from several threads at once, always the same.
pub trait PageSource: Send + Sync {
    /// Fills `buf` with memory from `address` on, of the source that the page list named. The range lies inside one run
    /// of the list's pages, but may start and end inside a page.
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()>;
}

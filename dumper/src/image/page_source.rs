//! Bytes on demand: where the contents of pages come from.

use crate::error::Result;

/// Where page contents come from. The layout calls back to the floors above: at any time until it
/// is dropped, from several threads at once. The bytes must always be the same.
pub trait PageSource: Send + Sync {
    /// Fills `buf` with memory from `address` on, of the source that the page list named. The range
    /// lies inside one run of the list's pages, but may start and end inside a page.
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()>;
}

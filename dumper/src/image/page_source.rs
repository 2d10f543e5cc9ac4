//! Bytes on demand: the source of page contents.

use crate::error::Result;

/// The source of page contents. The layout calls back to the higher floors, at any time until it is
/// dropped and from several threads at once. The bytes must always be the same.
pub trait PageSource: Send + Sync {
    /// Fills `buf` with memory from `address` on, from the source that the page list named. The
    /// range is within one run of the list's pages, but may start and end inside a page.
    fn read(&self, source: usize, address: u64, buf: &mut [u8]) -> Result<()>;
}

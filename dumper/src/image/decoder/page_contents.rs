//! The pages of one chunk while the decoder takes them apart.

use crate::error::{Error, Result};
use crate::image::crc;
use crate::image::decoder::sink::Sink;
use crate::image::format::PAGE_SIZE;
use crate::image::frame::ChunkHeader;

/// The pages of a chunk.
#[derive(Debug)]
pub(super) struct PageContents {
    pub(super) header: ChunkHeader,
    pub(super) addresses: Vec<u64>,
    /// How many pages the sink has.
    pub(super) done: usize,
    pub(super) crc: u32,
    /// The pages were skipped: the CRC is taken from the footer.
    pub(super) skipped: bool,
}

impl PageContents {
    /// Delivers the next pages, in runs of consecutive addresses.
    pub(super) fn deliver(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        self.crc = crc::extend(self.crc, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let addresses = &self.addresses[self.done..self.done + rest.len() / PAGE_SIZE as usize];
            let broken = addresses.windows(2).position(|pair| pair[1] - pair[0] != PAGE_SIZE);
            let pages = broken.map_or(addresses.len(), |index| index + 1);
            let (run, behind) = rest.split_at(pages * PAGE_SIZE as usize);
            sink.pages(addresses[0], run)?;
            self.done += pages;
            rest = behind;
        }
        Ok(())
    }
}

/// The error for pages, from `address` on, that do not match the CRC in the footer at `at`.
pub(crate) fn wrong_crc(at: u64, address: u64) -> Error {
    Error::damaged(format!("offset {at}: the CRC of the pages from {address:#x} on does not hold"))
}

//! Where each page of a list is stored in the image. Full chunks have a fixed stride, so there is
//! no object for a chunk: every offset is computed from the start of the list.

use crate::error::Result;
use crate::image::format::{FOOTER_LEN, FRAME_LEN, MAX_PAGES, PAGE_SIZE};
use crate::image::frame::encode_chunk;
use crate::image::page_runs::PageRuns;
use crate::image::page_source::PageSource;

const FULL: u64 = MAX_PAGES as u64 * PAGE_SIZE;

/// The distance from the pages of one full chunk to those of the next. A footer, a header and at
/// most 256 addresses fit one page.
const STRIDE: u64 = FULL + PAGE_SIZE;

/// One list of pages: its chunks, with the one that ends it.
#[derive(Debug)]
pub(super) struct PageList {
    /// The caller's number for the source of the contents.
    pub(super) source: usize,
    pub(super) runs: PageRuns,
    /// Offset of the first chunk.
    base: u64,
    /// Ordinal of the first chunk's frame.
    ordinal: u64,
    /// The number of the first chunk among all chunks with pages of the layout.
    pub(super) first_chunk: usize,
}

impl PageList {
    pub(super) fn new(source: usize, runs: PageRuns, base: u64, ordinal: u64, first_chunk: usize) -> PageList {
        PageList { source, runs, base, ordinal, first_chunk }
    }

    /// Chunks with pages.
    pub(super) fn chunks(&self) -> u64 {
        self.runs.pages().div_ceil(MAX_PAGES as u64)
    }

    /// Frames: the chunks with pages and the one that ends the list.
    pub(super) fn frames(&self) -> u64 {
        self.chunks() + 1
    }

    /// Offset of the first page of chunk `k`.
    pub(super) fn content_at(&self, k: u64) -> u64 {
        let first = self.runs.pages().min(MAX_PAGES as u64);
        (self.base + FRAME_LEN as u64 + first * 8).next_multiple_of(PAGE_SIZE) + k * STRIDE
    }

    /// Bytes of the pages of chunk `k`.
    pub(super) fn content_len(&self, k: u64) -> u64 {
        (self.runs.pages() * PAGE_SIZE - k * FULL).min(FULL)
    }

    /// Offset of the footer of chunk `k`.
    pub(super) fn footer_at(&self, k: u64) -> u64 {
        self.content_at(k) + self.content_len(k)
    }

    /// The footer of chunk `k`; `content_crc` is the CRC of its pages.
    pub(super) fn footer(&self, k: u64, content_crc: u32) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        bytes[..4].copy_from_slice(&content_crc.to_le_bytes());
        bytes[4..].copy_from_slice(&((self.content_len(k) / PAGE_SIZE) as u32).to_le_bytes());
        bytes
    }

    /// Offset of the header of chunk `k`. `chunks()` as `k` means the chunk that ends the list.
    pub(super) fn head_at(&self, k: u64) -> u64 {
        match k.checked_sub(1) {
            None => self.base,
            Some(before) => self.footer_at(before) + FOOTER_LEN as u64,
        }
    }

    /// Bytes of the header and the addresses of chunk `k`.
    pub(super) fn head_len(&self, k: u64) -> u64 {
        FRAME_LEN as u64 + self.content_len(k) / PAGE_SIZE * 8
    }

    /// The header and the addresses of chunk `k`. Zeros follow up to the pages.
    pub(super) fn head(&self, k: u64) -> Vec<u8> {
        let from = k * MAX_PAGES as u64 * PAGE_SIZE;
        let addresses: Vec<u64> = self
            .runs
            .pieces(from, FULL)
            .flat_map(|(address, len)| (0..len as u64 / PAGE_SIZE).map(move |page| address + page * PAGE_SIZE))
            .collect();
        encode_chunk(&addresses, self.ordinal + k)
    }

    /// The first offset behind the list.
    pub(super) fn end(&self) -> u64 {
        self.head_at(self.chunks()) + FRAME_LEN as u64
    }

    /// The chunk that the byte at `offset` belongs to (header, pages or footer), or `chunks()` for
    /// the end of the list.
    pub(super) fn chunk_of(&self, offset: u64) -> u64 {
        // Chunk k + 1 starts behind the footer of k, before the next stride is full.
        let guess = offset.saturating_sub(self.content_at(0)) / STRIDE;
        let k = guess.min(self.chunks());
        if k < self.chunks() && offset >= self.head_at(k + 1) { k + 1 } else { k }
    }

    /// Reads the bytes from `from` on of the contents of chunk `k` into the whole of `buf`.
    pub(super) fn read(&self, pages: &dyn PageSource, k: u64, from: u64, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        for (address, len) in self.runs.pieces(k * FULL + from, rest.len() as u64) {
            let (piece, behind) = rest.split_at_mut(len);
            pages.read(self.source, address, piece)?;
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn list(pages: u64, base: u64) -> PageList {
        let mut runs = PageRuns::new();
        runs.push(1 << 30, pages);
        PageList::new(0, runs, base, 10, 0)
    }

    /// The computed offsets equal those of frames laid one behind the other.
    #[test]
    fn every_offset_is_where_a_front_to_back_writer_puts_it() {
        for base in [64, 4056, 4064, 4088, 4096, 8192 + 2048] {
            for pages in [0u64, 1, 2, 255, 256, 257, 511, 512, 513, 1024, 1100] {
                let list = list(pages, base);
                let mut at = base;
                let mut left = pages;
                for k in 0..list.chunks() {
                    let n = left.min(256);
                    left -= n;
                    assert_eq!(list.head_at(k), at);
                    let head = list.head(k).len() as u64;
                    assert_eq!((head, list.head_len(k)), (32 + 8 * n, 32 + 8 * n));
                    assert_eq!(list.chunk_of(at), k);
                    at = (at + head).next_multiple_of(4096);
                    assert_eq!((list.chunk_of(at - 1), list.chunk_of(at)), (k, k));
                    assert_eq!((list.content_at(k), list.content_len(k)), (at, n * 4096));
                    at += n * 4096;
                    assert_eq!(list.footer_at(k), at);
                    at += 8;
                    assert_eq!((list.chunk_of(at - 1), list.chunk_of(at)), (k, k + 1));
                }
                assert_eq!(left, 0);
                assert_eq!(list.head_at(list.chunks()), at);
                assert_eq!(list.head(list.chunks()).len(), 32);
                assert_eq!(list.end(), at + 32);
                assert_eq!(list.chunk_of(at + 31), list.chunks());
            }
        }
    }
}

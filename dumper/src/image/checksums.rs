//! The CRCs of chunk contents that are known so far. The CRC of a whole chunk is kept for good, the
//! CRC of a part until the rest has been read.
//!
//! A reader's block ends anywhere in a chunk. The CRC of the part that it has read is kept, and the
//! next block extends it. So a pass from front to back reads every page once and computes every CRC
//! once, whatever threads read the blocks.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::image::crc;

/// A known CRC is stored with this bit.
const KNOWN: u64 = 1 << 32;

/// How many parts are kept at once: a few for every active reader.
const MAX_PARTS: usize = 64;

/// The CRCs of all chunks of a layout.
#[derive(Debug)]
pub(super) struct Checksums {
    whole: Box<[AtomicU64]>,
    parts: Mutex<Vec<ChecksumPart>>,
}

/// The CRC of the bytes `from..upto` of a chunk's contents.
#[derive(Clone, Copy, Debug)]
struct ChecksumPart {
    chunk: usize,
    from: u64,
    upto: u64,
    crc: u32,
}

impl Checksums {
    pub(super) fn new(chunks: usize) -> Checksums {
        Checksums { whole: (0..chunks).map(|_| AtomicU64::new(0)).collect(), parts: Mutex::new(Vec::new()) }
    }

    /// The CRC of a whole chunk, if known.
    pub(super) fn get(&self, chunk: usize) -> Option<u32> {
        // Relaxed: the CRC and its flag are one word, and nothing else is published by it.
        let word = self.whole[chunk].load(Ordering::Relaxed);
        (word & KNOWN != 0).then_some(word as u32)
    }

    /// The contents of `chunk`, `len` bytes in all, hold `bytes` at `from`.
    pub(super) fn note(&self, chunk: usize, len: u64, from: u64, bytes: &[u8]) {
        if bytes.is_empty() || self.get(chunk).is_some() {
            return;
        }
        let upto = from + bytes.len() as u64;
        let before = self.take(|part| part.chunk == chunk && part.from <= from && from <= part.upto);
        let part = match before {
            Some(before) if before.upto >= upto => before,
            Some(before) => {
                let fresh = &bytes[(before.upto - from) as usize..];
                ChecksumPart { upto, crc: crc::extend(before.crc, fresh), ..before }
            }
            None => ChecksumPart { chunk, from, upto, crc: crc::of(bytes) },
        };
        self.put(part, len);
    }

    /// The state of an unfinished `chunk` from `from` on: where the next part starts, and if that
    /// is `from`, where it ends.
    pub(super) fn next_part(&self, chunk: usize, from: u64) -> Option<(u64, u64)> {
        let parts = self.parts.lock();
        let behind = parts.iter().filter(|part| part.chunk == chunk && part.upto > from);
        behind.map(|part| (part.from, part.upto)).min()
    }

    /// Takes out the part that begins first among those selected.
    fn take(&self, which: impl Fn(&ChecksumPart) -> bool) -> Option<ChecksumPart> {
        let mut parts = self.parts.lock();
        let wanted = parts.iter().enumerate().filter(|(_, part)| which(part));
        let index = wanted.min_by_key(|(_, part)| part.from)?.0;
        Some(parts.remove(index))
    }

    /// Keeps `part`, joined with its neighbours. The search for neighbours and the insertion are
    /// under one lock: two threads that bring neighbours at once must not miss each other.
    fn put(&self, mut part: ChecksumPart, len: u64) {
        let touches = |a: &ChecksumPart, b: &ChecksumPart| a.chunk == b.chunk && (a.upto == b.from || b.upto == a.from);
        loop {
            let mut parts = self.parts.lock();
            if let Some(index) = parts.iter().position(|other| touches(other, &part)) {
                let other = parts.remove(index);
                // A join takes 20 us. Other threads need not wait for it.
                drop(parts);
                part = if other.upto == part.from { other.followed_by(&part) } else { part.followed_by(&other) };
                continue;
            }
            if part.from == 0 && part.upto == len {
                self.whole[part.chunk].store(KNOWN | u64::from(part.crc), Ordering::Relaxed);
            }
            let done = self.get(part.chunk).is_some();
            let covered = |other: &ChecksumPart| part.from <= other.from && other.upto <= part.upto;
            // Parts within the new part are of no use any more. Dropping one only means reading
            // again.
            parts.retain(|other| other.chunk != part.chunk || !(done || covered(other)));
            if !done {
                if parts.len() == MAX_PARTS {
                    parts.remove(0);
                }
                parts.push(part);
            }
            return;
        }
    }
}

impl ChecksumPart {
    /// Both parts as one. `next` must begin where this one ends.
    fn followed_by(&self, next: &ChecksumPart) -> ChecksumPart {
        ChecksumPart { upto: next.upto, crc: crc::join(self.crc, next.crc, next.upto - next.from), ..*self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn bytes() -> Vec<u8> {
        (0..10_000u32).map(|i| ((i * 31) >> 2) as u8).collect()
    }

    fn noted(order: &[(usize, usize)]) -> Checksums {
        let (bytes, sums) = (bytes(), Checksums::new(2));
        for (from, upto) in order {
            sums.note(1, 10_000, *from as u64, &bytes[*from..*upto]);
        }
        sums
    }

    #[test]
    fn parts_in_any_order_make_the_whole() {
        let cuts = [(0, 3000), (3000, 3001), (3001, 10_000)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let sums = noted(&order.map(|index: usize| cuts[index]));
            assert_eq!(sums.get(1), Some(crc::of(&bytes())), "{order:?}");
            assert_eq!(sums.get(0), None);
            assert!(sums.parts.lock().is_empty());
        }
    }

    #[test]
    fn neighbours_brought_at_once_do_not_miss_each_other() {
        let bytes = bytes();
        for _ in 0..200 {
            let sums = Checksums::new(1);
            std::thread::scope(|scope| {
                for (from, upto) in [(0, 5000), (5000, 10_000)] {
                    let (sums, bytes) = (&sums, &bytes);
                    scope.spawn(move || sums.note(0, 10_000, from as u64, &bytes[from..upto]));
                }
            });
            assert_eq!(sums.get(0), Some(crc::of(&bytes)));
        }
    }

    #[test]
    fn parts_that_overlap_do_no_harm() {
        let sums = noted(&[(0, 3000), (2000, 5000), (100, 200), (4000, 9000), (8999, 10_000)]);
        assert_eq!(sums.get(1), Some(crc::of(&bytes())));
        let sums = noted(&[(5000, 8000), (0, 6000), (6000, 10_000)]);
        assert_eq!(sums.get(1), Some(crc::of(&bytes())));
    }

    #[test]
    fn the_next_part_is_found() {
        let sums = noted(&[(0, 3000), (5000, 8000)]);
        assert_eq!(sums.next_part(1, 0), Some((0, 3000)));
        assert_eq!(sums.next_part(1, 3000), Some((5000, 8000)));
        assert_eq!(sums.next_part(1, 8000), None);
        assert_eq!(sums.next_part(0, 0), None);
        assert_eq!(sums.get(1), None);
    }

    #[test]
    fn memory_is_bounded() {
        let sums = Checksums::new(1000);
        for chunk in 0..1000 {
            sums.note(chunk, 10_000, 5, &[1, 2, 3]);
        }
        assert_eq!(sums.parts.lock().len(), MAX_PARTS);
    }
}

//! The MAC of an image whose bytes are read in any order. BLAKE3 hashes blocks of 1024 bytes and
//! joins them in a binary tree. The values of subtrees that are known so far are kept. Two siblings
//! become their parent at once, so a pass from front to back keeps few values however long the
//! image is. What is not known at the end is read again. Its values are not kept, because joins
//! would remove subtrees while the tree is searched for them.

use std::collections::BTreeMap;

use blake3::Hash;
use blake3::hazmat::{
    ChainingValue, HasherExt, left_subtree_len, max_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use parking_lot::Mutex;

use crate::error::Result;
use crate::key::Key;

/// The smallest subtree that is kept: a page. Parts of pages are read again.
const UNIT: u64 = 4096;

/// How many bytes are read at once if nothing is known of them. Also the size that a subtree must
/// have to stay if too many are known.
const PIECE: u64 = 1 << 20;

/// How many subtrees are kept. That is less than 1 MiB of memory.
const MAX_KNOWN: usize = 8192;

/// The tree of one image.
#[derive(Debug)]
pub(super) struct MacTree {
    key: Key,
    /// The MAC covers this many bytes: all before the trailer.
    len: u64,
    /// By first byte. None overlaps another.
    known: Mutex<BTreeMap<u64, Subtree>>,
}

/// The value of the bytes up to `end`. They are a subtree: they begin at a multiple of a power of
/// two, and are as long as it, or reach the end of the image.
#[derive(Clone, Copy, Debug)]
struct Subtree {
    end: u64,
    value: ChainingValue,
}

impl MacTree {
    pub(super) fn new(key: Key, len: u64) -> MacTree {
        MacTree { key, len, known: Mutex::default() }
    }

    /// The image holds `bytes` at `at`.
    pub(super) fn note(&self, at: u64, bytes: &[u8]) {
        let upto = (at + bytes.len() as u64).min(self.len);
        let mut from = at.next_multiple_of(UNIT);
        while let Some(end) = self.subtree_end(from, upto) {
            // Hashed without the lock: it takes longer than everything else here.
            if !covers(&self.known.lock(), from, end) {
                let value = self.value(from, &bytes[(from - at) as usize..(end - at) as usize]);
                self.add(from, Subtree { end, value });
            }
            from = end;
        }
    }

    /// The MAC. Calls `read` with an offset and a buffer for the bytes that are not known.
    pub(super) fn mac(&self, read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>) -> Result<Hash> {
        let mut scratch = Vec::new();
        if self.len <= UNIT {
            scratch.resize(self.len as usize, 0);
            read(0, &mut scratch)?;
            return Ok(self.key.hasher().update(&scratch).finalize());
        }
        let middle = left_subtree_len(self.len);
        let left = self.find(0, middle, &mut scratch, read)?;
        let right = self.find(middle, self.len, &mut scratch, read)?;
        Ok(merge_subtrees_root(&left, &right, self.key.mode()))
    }

    /// Frees what is known. Call it when the MAC is.
    pub(super) fn forget(&self) {
        self.known.lock().clear();
    }

    /// The value of the subtree `from..end`.
    fn find(
        &self,
        from: u64,
        end: u64,
        scratch: &mut Vec<u8>,
        read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<ChainingValue> {
        let first = self.known.lock().range(from..end).next().map(|(at, subtree)| (*at, *subtree));
        match first {
            Some((at, subtree)) if at == from && subtree.end == end => return Ok(subtree.value),
            Some(_) if end - from > UNIT => {}
            None if end - from > PIECE => {}
            _ => {
                scratch.resize((end - from) as usize, 0);
                read(from, scratch)?;
                return Ok(self.value(from, scratch));
            }
        }
        let middle = from + left_subtree_len(end - from);
        let left = self.find(from, middle, scratch, read)?;
        let right = self.find(middle, end, scratch, read)?;
        Ok(merge_subtrees_non_root(&left, &right, self.key.mode()))
    }

    /// The end of the largest subtree at `from` that does not reach beyond `upto`. `None` if not
    /// even a [`UNIT`] fits. The whole image is no subtree: its value is the MAC.
    fn subtree_end(&self, from: u64, upto: u64) -> Option<u64> {
        // The end of the image need not be where a subtree may begin.
        if from >= self.len {
            return None;
        }
        let most = max_subtree_len(from).unwrap_or(u64::MAX);
        let lens = std::iter::successors(Some(UNIT), |len| len.checked_mul(2)).take_while(|len| *len <= most);
        let ends = lens.map(|len| from.saturating_add(len).min(self.len));
        ends.take_while(|end| *end <= upto && end - from < self.len).last()
    }

    /// The value of the subtree that begins at `from` and holds `bytes`.
    fn value(&self, from: u64, bytes: &[u8]) -> ChainingValue {
        self.key.hasher().set_input_offset(from).update(bytes).finalize_non_root()
    }

    /// Keeps a subtree, joined with its sibling, with the sibling of their parent, and so on.
    fn add(&self, from: u64, subtree: Subtree) {
        let mut known = self.known.lock();
        if covers(&known, from, subtree.end) {
            return;
        }
        while let Some(within) = known.range(from..subtree.end).next().map(|(at, _)| *at) {
            known.remove(&within);
        }
        known.insert(from, subtree);
        let mut at = from;
        while let Some(parent) = self.join(&mut known, at) {
            at = parent;
        }
        if known.len() > MAX_KNOWN {
            known.retain(|at, subtree| subtree.end - at >= PIECE);
        }
        if known.len() > MAX_KNOWN {
            known.clear();
        }
    }

    /// Joins the subtree at `at` with its sibling, if both are known. Returns where their parent
    /// begins.
    fn join(&self, known: &mut BTreeMap<u64, Subtree>, at: u64) -> Option<u64> {
        let here = *known.get(&at)?;
        let before =
            known.range(..at).next_back().map(|(from, left)| (*from, *left)).filter(|(_, left)| left.end == at);
        let after = known.get(&here.end).copied();
        let as_right = before.filter(|(from, left)| self.are_siblings(*from, left.end, here.end));
        let as_left = after.filter(|right| self.are_siblings(at, here.end, right.end)).map(|right| (at, here, right));
        let (from, left, right) = as_right.map(|(from, left)| (from, left, here)).or(as_left)?;
        let value = merge_subtrees_non_root(&left.value, &right.value, self.key.mode());
        known.remove(&left.end);
        known.insert(from, Subtree { end: right.end, value });
        Some(from)
    }

    /// Whether `from..middle` and `middle..end` are the halves of one subtree.
    fn are_siblings(&self, from: u64, middle: u64, end: u64) -> bool {
        let (left, right) = (middle - from, end - middle);
        left.is_power_of_two()
            && from.is_multiple_of(left * 2)
            && (right == left || right < left && end == self.len)
            && end - from < self.len
    }
}

fn covers(known: &BTreeMap<u64, Subtree>, from: u64, end: u64) -> bool {
    known.range(..=from).next_back().is_some_and(|(_, subtree)| subtree.end >= end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn key() -> Key {
        Key::new(b"0123456789abcdef").unwrap()
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
    }

    /// The MAC of `bytes` after `parts` of them were noted, and how many bytes were read again.
    fn mac(bytes: &[u8], parts: impl IntoIterator<Item = (usize, usize)>) -> (Hash, usize, usize) {
        let tree = MacTree::new(key(), bytes.len() as u64);
        for (from, upto) in parts {
            tree.note(from as u64, &bytes[from..upto.min(bytes.len())]);
        }
        let (mut read, kept) = (0, tree.known.lock().len());
        let mac = tree.mac(&mut |at, buf| {
            buf.copy_from_slice(&bytes[at as usize..at as usize + buf.len()]);
            read += buf.len();
            Ok(())
        });
        (mac.unwrap(), read, kept)
    }

    fn steps(len: usize, step: usize) -> impl DoubleEndedIterator<Item = (usize, usize)> + Clone {
        (0..len.div_ceil(step)).map(move |n| (n * step, (n + 1) * step))
    }

    const LENGTHS: [usize; 14] = [
        64,
        1024,
        1032,
        4096,
        4104,
        8192,
        12_288,
        20_000,
        1 << 20,
        (1 << 20) + 8,
        3 << 20,
        (3 << 20) + 4096,
        5_000_000,
        8 << 20,
    ];

    /// The MAC is the keyed hash of all bytes as the crate itself computes it.
    #[test]
    fn any_parts_in_any_order_give_the_keyed_hash_of_all() {
        for len in LENGTHS {
            let bytes = bytes(len);
            let expected = key().hasher().update(&bytes).finalize();
            assert_eq!(mac(&bytes, []).0, expected, "{len} bytes, nothing noted");
            for step in [4096, 12_288, 65_537, 131_072, 1 << 20, 10_000_000] {
                assert_eq!(mac(&bytes, steps(len, step)).0, expected, "{len} bytes, steps of {step}");
                assert_eq!(mac(&bytes, steps(len, step).rev()).0, expected, "{len} bytes, back in steps of {step}");
                let twice = steps(len, step).step_by(2).chain(steps(len, step)).chain(steps(len, 7000));
                assert_eq!(mac(&bytes, twice).0, expected, "{len} bytes, every second first, steps of {step}");
            }
        }
    }

    #[test]
    fn whole_pages_are_not_read_again_and_few_values_are_kept() {
        for len in LENGTHS.into_iter().filter(|len| *len > 4096) {
            for step in [4096, 12_288, 131_072, 1 << 20, 10_000_000] {
                let (bytes, order) = (bytes(len), steps(len, step));
                for (_, read, kept) in [mac(&bytes, order.clone()), mac(&bytes, order.rev())] {
                    assert_eq!(read, 0, "{len} bytes, steps of {step}");
                    assert!(kept <= 24, "{len} bytes, steps of {step}: {kept}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_missing_is_read() {
        let bytes = bytes(8 << 20);
        assert_eq!(mac(&bytes, [(0, 3 << 20), (4 << 20, 8 << 20)]).1, 1 << 20);
        assert_eq!(mac(&bytes, [(0, 5000), (5000, 8 << 20)]).1, 4096, "a page cut in two");
    }

    #[test]
    fn memory_is_bounded() {
        let tree = MacTree::new(key(), 1 << 40);
        for n in 0..3 * MAX_KNOWN as u64 {
            tree.note(n * 2 * UNIT, &[0; UNIT as usize]);
            assert!(tree.known.lock().len() <= MAX_KNOWN);
        }
        tree.forget();
        assert!(tree.known.lock().is_empty());
    }

    #[test]
    fn threads_that_bring_parts_at_once_agree() {
        let bytes = bytes(2 << 20);
        let expected = key().hasher().update(&bytes).finalize();
        for _ in 0..20 {
            let tree = MacTree::new(key(), bytes.len() as u64);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (tree, bytes) = (&tree, &bytes);
                    scope.spawn(move || {
                        for (from, upto) in steps(bytes.len(), 65_536).skip(thread).step_by(3) {
                            tree.note(from as u64, &bytes[from..upto]);
                        }
                    });
                }
            });
            assert_eq!(tree.mac(&mut |_, _| panic!("nothing is missing")).unwrap(), expected);
        }
    }
}

//! Bytes that arrive, and those that wait for the rest of their struct.

use blake3::{Hash, Hasher};

use crate::key::Key;

/// How much of the input has arrived, and the beginning of a struct that is not complete.
#[derive(Debug)]
pub(super) struct Feed {
    /// Bytes of the input so far.
    pub(super) offset: u64,
    pub(super) held: Vec<u8>,
    /// Hashes the image, if its MAC is to be verified.
    hasher: Option<Box<Hasher>>,
}

impl Feed {
    /// A feed without bytes. With a `key` it hashes what it takes.
    pub(super) fn new(key: Option<&Key>) -> Feed {
        Feed { offset: 0, held: Vec::new(), hasher: key.map(|key| Box::new(key.hasher())) }
    }

    pub(super) fn is_hashing(&self) -> bool {
        self.hasher.is_some()
    }

    /// The image with this header begins: what was hashed before is forgotten.
    pub(super) fn begin_hash(&mut self, header: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.reset().update(header);
        }
    }

    /// Adds bytes that [`Feed::gather_array`] has taken.
    pub(super) fn hash(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    /// The MAC of the image up to here.
    pub(super) fn mac(&self) -> Option<Hash> {
        self.hasher.as_ref().map(|hasher| hasher.finalize())
    }

    /// Takes and hashes `len` bytes, which must be there.
    pub(super) fn take<'a>(&mut self, input: &mut &'a [u8], len: usize) -> &'a [u8] {
        let taken = self.advance(input, len);
        self.hash(taken);
        taken
    }

    fn advance<'a>(&mut self, input: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (taken, rest) = input.split_at(len);
        *input = rest;
        self.offset += len as u64;
        taken
    }

    /// Holds back input until there are `len` bytes. Memory grows with the bytes that arrive, not
    /// with the announced length.
    pub(super) fn gather(&mut self, input: &mut &[u8], len: usize) -> bool {
        let missing = len - self.held.len();
        let taken = self.take(input, missing.min(input.len()));
        self.held.extend_from_slice(taken);
        taken.len() == missing
    }

    /// The same for a struct that may be the trailer's, which the MAC does not cover: the bytes are
    /// not hashed.
    pub(super) fn gather_array<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let missing = N - self.held.len();
        let taken = self.advance(input, missing.min(input.len()));
        self.held.extend_from_slice(taken);
        if taken.len() < missing {
            return None;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.held);
        self.held.clear();
        Some(bytes)
    }
}

//! Bytes that arrive, and those that wait for the rest of their struct.

/// How much of the input has arrived, and the beginning of a struct that is not complete.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Bytes of the input so far.
    pub(super) offset: u64,
    pub(super) held: Vec<u8>,
}

impl Feed {
    /// Takes `len` bytes, which must be there.
    pub(super) fn take<'a>(&mut self, input: &mut &'a [u8], len: usize) -> &'a [u8] {
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

    pub(super) fn gather_array<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if !self.gather(input, N) {
            return None;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.held);
        self.held.clear();
        Some(bytes)
    }
}

//! A buffer that holds a part of the image. Bytes of the image are copied to their place in it.

/// The part of the image that a buffer holds.
pub(super) struct Window<'a> {
    at: u64,
    buf: &'a mut [u8],
}

impl<'a> Window<'a> {
    /// `buf` holds the bytes of the image from `at` on.
    pub(super) fn new(at: u64, buf: &'a mut [u8]) -> Window<'a> {
        Window { at, buf }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn end(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    /// The part of the `len` bytes at `at` that is in the buffer: its first byte, counted from
    /// `at`, and its place.
    pub(super) fn part(&mut self, at: u64, len: u64) -> Option<(u64, &mut [u8])> {
        let (from, upto) = (at.max(self.at), (at + len).min(self.end()));
        (from < upto).then(|| (from - at, &mut self.buf[(from - self.at) as usize..(upto - self.at) as usize]))
    }

    /// Copies `bytes`, which are at `at` in the image.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        if let Some((from, place)) = self.part(at, bytes.len() as u64) {
            place.copy_from_slice(&bytes[from as usize..from as usize + place.len()]);
        }
    }

    /// Writes the zeros that the image has from `at` up to `end`.
    pub(super) fn zero(&mut self, at: u64, end: u64) {
        if let Some((_, place)) = self.part(at, end - at) {
            place.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_what_overlaps_is_put() {
        let mut buf = [9; 4];
        let mut window = Window::new(10, &mut buf);
        assert_eq!((window.at(), window.end()), (10, 14));
        window.put(8, &[1, 2, 3]);
        window.put(13, &[4, 5]);
        window.put(14, &[6]);
        window.put(0, &[7; 10]);
        window.zero(11, 12);
        assert_eq!(buf, [3, 0, 9, 4]);
    }
}

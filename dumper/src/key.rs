//! The key that signs images.
//!
//! The message authentication code (MAC) of an image is its BLAKE3 keyed hash. HMAC-SHA-256 would
//! need every byte in order, and takes longer. BLAKE3 is a tree, so readers of any part, in any
//! order and on several threads, each add what they know.

use std::fmt;
use std::ops::RangeInclusive;

use blake3::hazmat::Mode;
use blake3::{Hash, Hasher};

/// The context in which BLAKE3 derives the key from the secret. No other program uses it.
const CONTEXT: &str = "ckptfs 2026-11-27 key of the MAC of an image";

/// Signs images, and verifies that an image was signed with it. Two keys are compared in constant
/// time.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Hash);

impl Key {
    /// How many bytes a secret may have.
    pub const SECRET_LEN: RangeInclusive<usize> = 16..=4096;

    /// The key that is derived from `secret`, the contents of a key file. `None` if that has not
    /// [`Key::SECRET_LEN`] bytes.
    pub fn new(secret: &[u8]) -> Option<Key> {
        let fits = Self::SECRET_LEN.contains(&secret.len());
        fits.then(|| Key(Hash::from_bytes(blake3::derive_key(CONTEXT, secret))))
    }

    /// A hasher for all bytes of an image.
    pub(crate) fn hasher(&self) -> Hasher {
        Hasher::new_keyed(self.0.as_bytes())
    }

    /// The mode in which parts of its hashes are joined.
    pub(crate) fn mode(&self) -> Mode<'_> {
        Mode::KeyedHash(self.0.as_bytes())
    }
}

/// Shows nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_secret_is_neither_short_nor_endless() {
        assert!([0, 15, 4097].iter().all(|len| Key::new(&vec![7; *len]).is_none()));
        let keys = [16, 17, 4096].map(|len| Key::new(&vec![7; len]).unwrap());
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] == Key::new(&[7; 16]).unwrap());
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new(b"0123456789abcdef").unwrap()), "Key(..)");
    }
}

//! The trailer: the number of frames before it, a digest of all their CRCs, and the MAC of a signed
//! image.

use std::fmt::Write as _;

use blake3::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::image::format::TRAILER_TAG;
use crate::image::frame::{Record, Tag};

/// SHA-256 over the CRCs of the frames, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Digest {
    hash: Sha256,
    frames: u64,
}

impl Digest {
    /// Adds a record with these bytes 24..32 of its header as the next frame.
    pub(super) fn record(&mut self, crcs: &[u8]) {
        self.hash.update(crcs);
        self.frames += 1;
    }

    /// Adds a chunk as the next frame, with this CRC of its pages (0 if none), and these bytes
    /// 24..32 of its header.
    pub(super) fn chunk(&mut self, content_crc: u32, crcs: &[u8]) {
        self.hash.update(content_crc.to_le_bytes());
        self.record(crcs);
    }

    /// The number of frames so far, which is the ordinal of the next.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// The trailer for the frames so far.
    pub(super) fn trailer(&self) -> Trailer {
        let mut digest = String::with_capacity(64);
        for byte in self.hash.clone().finalize() {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Trailer { frames: self.frames, digest, mac: None }
    }
}

/// The body of the trailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trailer {
    pub(super) frames: u64,
    pub(super) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

impl Trailer {
    /// The same with the MAC of a signed image.
    #[must_use]
    pub(super) fn with_mac(self, mac: Option<Hash>) -> Trailer {
        Trailer { mac: mac.map(|mac| mac.to_hex().to_string()), ..self }
    }

    /// The trailer's frame.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.record()?.encode(self.frames))
    }

    /// The trailer as a record.
    pub(super) fn record(&self) -> Result<Record> {
        Record::new(Tag(TRAILER_TAG), self)
    }

    /// The length of the trailer behind `frames` frames. It is known before the digest and the MAC
    /// are.
    pub(super) fn encoded_len(frames: u64, is_signed: bool) -> Result<u64> {
        let trailer = Trailer { frames, digest: "0".repeat(64), mac: is_signed.then(|| "0".repeat(64)) };
        Ok(trailer.encode()?.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_length_is_known_before_the_digest() {
        for frames in [0, 1, 9, 10, 12_345_678] {
            let mut digest = Digest::default();
            digest.record(&[1; 8]);
            for mac in [None, Some(blake3::hash(b""))] {
                let trailer = Trailer { frames, ..digest.trailer() }.with_mac(mac);
                let len = Trailer::encoded_len(frames, mac.is_some()).unwrap();
                assert_eq!(trailer.encode().unwrap().len() as u64, len);
            }
        }
    }

    /// The digest of nothing is SHA-256's own.
    #[test]
    fn is_sha256_in_order() {
        let empty = Digest::default().trailer();
        assert_eq!(empty.digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.record(b"12345678");
        one.chunk(5, b"abcdefgh");
        other.chunk(5, b"abcdefgh");
        other.record(b"12345678");
        assert_eq!((one.frames(), other.frames()), (2, 2));
        assert_ne!(one.trailer().digest, other.trailer().digest);
    }
}

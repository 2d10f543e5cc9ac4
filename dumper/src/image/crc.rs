//! CRC-32C (Castagnoli, RFC 3720 appendix B.4), of bytes at once, in pieces, and of two joined
//! pieces.
//!
//! Measured on 1 MiB buffers: crc-fast 51 GB/s (VPCLMULQDQ), the crate crc32c 24 GB/s. `join` costs
//! 20 us in either, as much as the checksum of a whole MiB. So extend if the bytes come in order,
//! and join only if they do not.

use crc_fast::{CrcAlgorithm, Digest};

const CASTAGNOLI: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// The CRC of no bytes. [`extend`] starts from it.
pub(crate) const EMPTY: u32 = 0;

/// The CRC of `bytes`.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CASTAGNOLI, bytes) as u32
}

/// The CRC of some bytes followed by `bytes`, from the CRC `crc` of the former.
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CASTAGNOLI, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// The CRC of two sequences from the CRC of each and the length of the second.
pub(crate) fn join(first: u32, second: u32, second_len: u64) -> u32 {
    crc_fast::checksum_combine(CASTAGNOLI, u64::from(first), u64::from(second), second_len) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue, and two vectors of RFC 3720.
    #[test]
    fn is_castagnoli() {
        assert_eq!(of(b"123456789"), 0xe306_9283);
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(of(b""), EMPTY);
    }

    #[test]
    fn pieces_equal_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
        for cut in [0, 1, 7, 4095, 4096, 9999, 10_000] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(extend(of(head), tail), of(&bytes), "cut at {cut}");
            assert_eq!(join(of(head), of(tail), tail.len() as u64), of(&bytes), "cut at {cut}");
        }
    }
}

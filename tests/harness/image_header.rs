//! The header of an image, changed so that its CRC holds.

/// The CRC of images, CRC-32C.
pub fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Changes the time of an image. All its checksums hold, so only a signature shows the change.
pub fn change_time(image: &mut [u8]) {
    image[32] ^= 1;
    let crc = crc(&image[..60]);
    image[60..64].copy_from_slice(&crc.to_le_bytes());
}

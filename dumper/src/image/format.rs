//! An image is one stream, written once from front to back. It can be restored from a pipe in
//! constant memory, and read at any offset as a file. Numbers are little-endian, every struct has a
//! fixed width and is 8-byte aligned, and checksums (CRC) are CRC-32C.
//!
//! ```text
//!   image    = header, frames, trailer               offsets count from the image's own first byte
//!   frames   = records; chunks follow one with PAGES, and the chunk with no pages ends the list
//!   a file   = image, then any number of zero bytes and further images (increments)
//!
//!   HEADER   0        8    12    16    20    24        32        40        48       60    64
//!            | magic  | ver | arch| page| hlen| total   | time ns | stop ns | zero   | crc |
//!              89 'C' 'K' 'P' 0d 0a 1a 0a: a bit lost, LF <-> CRLF, ^Z and UTF-8 show
//!              ver   u32  VERSION                       total  u64  header to trailer, inclusive
//!              arch  u32  ELF e_machine                 time   i64  ns since the epoch
//!              page  u32  PAGE_SIZE                     stop   u64  ns of the stop; 0: unknown
//!              hlen  u32  HEADER_LEN                    crc    u32  of bytes 0..60
//!
//!   RECORD   0     4     8     12    16        24    28    32
//!            | tag | flag| jlen| blen| ordinal | bcrc| hcrc| json, 0 to 8 | blob, 0 to 8 |
//!              tag   4 printable ASCII bytes            ordinal u64  0, 1, 2 ...: shows a gap
//!              flag  bit 0 OPTIONAL: a reader that does not know the tag may skip it
//!                    bit 1 PAGES: chunks follow         bcrc    u32  of the body with its padding
//!              jlen  u32  <= MAX_JSON                   hcrc    u32  of bytes 0..28
//!              blen  u32  <= MAX_BLOB
//!
//!   CHUNK    0     4     8     12    16        24    28    32
//!            |PAGE | 0   | n   | 0   | ordinal | acrc| hcrc|n addresses|0 to 4096|n pages|ccrc|n |
//!              n     u32  <= MAX_PAGES                  acrc    u32  of the n addresses
//!              addresses  u64, page-aligned, ascending over all chunks of a list
//!              pages      start at a multiple of 4096   ccrc    u32  of the n pages
//!              n = 0: the header alone; it ends the list
//!
//!   TRAILER  a record TEND, flags 0, no blob: {"frames":N,"digest":"64 hex digits"}
//!              frames  how many frames come before it
//!              digest  SHA-256 over the CRCs of each of them, in order:
//!                      bcrc hcrc, or ccrc (0 if n = 0) acrc hcrc
//!              mac     only if the image is signed: 64 hex digits
//! ```
//!
//! The header is not in the digest: two images of an unchanged process differ only in the header's
//! times and CRC.
//!
//! Records are in this order: SIGN if the image is signed; the tree; the attributes of each process
//! and of its threads; System V semaphores and message queues; what open files share; open files;
//! descriptor tables; locks and signal owners; mappings. Absent pages, pages of zeros and pages
//! that are unchanged from the mapped file are not stored. Pages that a process shares with the
//! process that forked it are stored once.
//!
//! A reader refuses input that it does not understand or that fails a check before it allocates
//! memory for it. Its error names the offset.
//!
//! # Signed images
//!
//! The first record of a signed image is SIGN, with the flag OPTIONAL: {"mac":"blake3"}. The mac of
//! the trailer is the BLAKE3 keyed hash of all bytes of the image before the trailer, from the
//! first of the header on. Its key is what BLAKE3's key derivation makes of the bytes of the key
//! file in the context "ckptfs 2026-11-27 key of the MAC of an image". The MAC does not cover the
//! trailer, so that of a signed image is written in one way only: the JSON is
//! {"frames":N,"digest":"64 hex digits","mac":"64 hex digits"}, in this order, with small letters
//! and without spaces. A reader with a key refuses an image whose first record is another, and an
//! image with another trailer. A reader without a key skips the record, and does not look at the
//! MAC. A record SIGN at another place signs nothing.
//!
//! # The body of a record
//!
//! The JSON of a record is an object, and its field names are the format. Names of files and
//! processes need not be text: they are bytes, an array of numbers from 0 to 255, and a readable
//! twin may be beside them. An id of an open file or of an object is given by the image and
//! means nothing outside it.

// The format is drawn only here. docs/format.md and ckptfs(5) are made from the comment above and
// from those on tags and on the fields of bodies.

use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::image::crc;

/// The format version that this build reads and writes.
/// - 1: the first format; bytes 40..60 of the header are zero.
/// - 2: the header says how long the processes were stopped.
pub const VERSION: u32 = 2;

/// The machine that this build reads and writes: EM_X86_64 of elf(5).
pub const ARCH: u32 = 62;

/// Bytes of a page, in the image as in the process.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes of the image header.
pub const HEADER_LEN: usize = 64;

/// Designed like the magic of PNG: a first byte with the high bit set, then a name, then every
/// sequence that text mode changes.
pub(super) const MAGIC: [u8; 8] = *b"\x89CKP\r\n\x1a\n";

/// Bytes of a record's or chunk's header.
pub(super) const FRAME_LEN: usize = 32;
/// Bytes behind a chunk's pages.
pub(super) const FOOTER_LEN: usize = 8;
/// Pages of a chunk: its contents are 1 MiB, its addresses half a page.
pub(super) const MAX_PAGES: usize = 256;
/// The most bytes of a record's JSON.
pub(super) const MAX_JSON: usize = 16 << 20;
/// The most bytes of a record's blob.
pub(super) const MAX_BLOB: usize = 64 << 20;

/// Frame flag: a reader that does not know the tag may skip the record (and its pages).
pub(super) const OPTIONAL: u32 = 1;
/// Frame flag: chunks follow the record.
pub(super) const PAGES: u32 = 2;

/// The tag of a chunk.
pub(super) const CHUNK_TAG: [u8; 4] = *b"PAGE";
/// The tag of the record that says that an image is signed.
pub(super) const SIGNED_TAG: [u8; 4] = *b"SIGN";
/// What that record says about the MAC.
pub(super) const MAC_NAME: &str = "blake3";
/// The tag of the trailer.
pub(super) const TRAILER_TAG: [u8; 4] = *b"TEND";

/// `len` rounded up to the 8-byte alignment of every struct.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// The four bytes at `at` as a little-endian number. `at + 4` must lie inside `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// The eight bytes at `at` as a little-endian number. `at + 8` must lie inside `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// The first 64 bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format's version.
    pub version: u32,
    /// ELF `e_machine` of the process.
    pub arch: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// Bytes of the image, from this header to the trailer.
    pub total: u64,
    /// The instant, in ns since the epoch.
    pub time_ns: i64,
    /// How long the processes were stopped, ns; 0 if that is not known.
    pub stopped_ns: u64,
}

impl Header {
    /// The header of an image of this build.
    pub(super) fn new(total: u64, time_ns: i64, stopped_ns: u64) -> Header {
        Header { version: VERSION, arch: ARCH, page_size: PAGE_SIZE as u32, total, time_ns, stopped_ns }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.arch.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.page_size.to_le_bytes());
        bytes[20..24].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.total.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.stopped_ns.to_le_bytes());
        let crc = crc::of(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the header at `offset` of the input. The order of the checks is the order in which a
    /// later format may change things: the magic never changes, and the version is read before
    /// anything that depends on it.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN], offset: u64) -> Result<Header> {
        check_magic(&bytes[..8], offset)?;
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(Error::damaged(format!(
                "offset {}: the image has format version {version}, this build reads up to {VERSION}: a newer ckptfs is \
                 needed",
                offset + 8
            )));
        }
        if u32_at(bytes, 60) != crc::of(&bytes[..60]) {
            return Err(Error::damaged(format!("offset {}: the header's CRC does not hold", offset + 60)));
        }
        if version == 0 {
            return Err(Error::damaged(format!("offset {}: there is no format version 0", offset + 8)));
        }
        let arch = u32_at(bytes, 12);
        if arch != ARCH {
            return Err(Error::damaged(format!(
                "offset {}: the image is of machine type {arch} (ELF e_machine), this build reads {ARCH}",
                offset + 12
            )));
        }
        let page_size = u32_at(bytes, 16);
        if u64::from(page_size) != PAGE_SIZE {
            return Err(Error::damaged(format!(
                "offset {}: the image has pages of {page_size} bytes, this build reads {PAGE_SIZE}",
                offset + 16
            )));
        }
        let header_len = u32_at(bytes, 20);
        if header_len as usize != HEADER_LEN {
            return Err(Error::damaged(format!(
                "offset {}: the header says that it has {header_len} bytes instead of {HEADER_LEN}",
                offset + 20
            )));
        }
        let reserved = if version < 2 { 40 } else { 48 };
        if bytes[reserved..60].iter().any(|byte| *byte != 0) {
            let at = offset + reserved as u64;
            return Err(Error::damaged(format!("offset {at}: reserved bytes of the header are not zero")));
        }
        let total = u64_at(bytes, 24);
        let (time_ns, stopped_ns) = (u64_at(bytes, 32) as i64, u64_at(bytes, 40));
        if total < (HEADER_LEN + FRAME_LEN) as u64 || !total.is_multiple_of(8) || offset.checked_add(total).is_none() {
            return Err(Error::damaged(format!(
                "offset {}: the header gives an impossible total length of {total} bytes",
                offset + 24
            )));
        }
        Ok(Header { version, arch, page_size, total, time_ns, stopped_ns })
    }
}

/// Checks the magic at `offset`; recognises an image that was damaged by text mode.
pub(super) fn check_magic(bytes: &[u8], offset: u64) -> Result<()> {
    if bytes == MAGIC {
        return Ok(());
    }
    const CHANGED: [(&[u8], &str); 5] = [
        (b"\x89CKP\n\x1a\n", "CR LF became LF"),
        (b"\x89CKP\r\r\n\x1a", "LF became CR LF"),
        (b"\x89CKP\r\n\n", "^Z was dropped"),
        (b"\x09CKP", "the high bit was stripped"),
        (b"\xc2\x89CKP", "it was recoded as UTF-8"),
    ];
    let text_mode = CHANGED.iter().find(|(start, _)| bytes.starts_with(start));
    Err(Error::damaged(match text_mode {
        Some((_, how)) => format!("offset {offset}: the image was transferred in text mode ({how}): copy it as binary"),
        None => match foreign(bytes) {
            Some((what, how)) => format!("offset {offset}: this is {what}, not a ckptfs image: {how}"),
            None => format!("offset {offset}: not a ckptfs image (wrong magic)"),
        },
    }))
}

/// Recognises what an image is often packed into, by its first bytes. Gives its name, and how to
/// unpack it.
fn foreign(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const FOREIGN: [(&[u8], &str, &str); 12] = [
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc FILE | ..."),
        (b"\x1f\x8b", "gzip", "gzip -dc FILE | ..."),
        (b"\xfd7zXZ\0", "xz", "xz -dc FILE | ..."),
        (b"BZh", "bzip2", "bzip2 -dc FILE | ..."),
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc FILE | ..."),
        (b"PK\x03\x04", "a zip archive", "unzip -p FILE | ..."),
        (b"age-encr", "encrypted with age", "age -d -i KEY FILE | ..."),
        (b"-----BEG", "armoured text (gpg or age)", "gpg -d FILE | ..., or age -d -i KEY FILE | ..."),
        (b"\x84\x5e", "encrypted with gpg", "gpg -d FILE | ..."),
        (b"\x85\x01", "encrypted with gpg", "gpg -d FILE | ..."),
        (b"\x85\x02", "encrypted with gpg", "gpg -d FILE | ..."),
        (b"\x7fELF", "an ELF file, perhaps a core file", "restore the file image of the mount, not core"),
    ];
    FOREIGN.iter().find(|(start, ..)| bytes.starts_with(start)).map(|(_, what, how)| (*what, *how))
}

/// The error for an input without any image. `name` is that of the input.
pub fn empty(name: impl std::fmt::Display) -> Error {
    let why = "a dump that is refused leaves an empty file, and status of its mount has the reason";
    Error::damaged(format!("{name}: offset 0: empty: there is no image; {why}"))
}

/// Nanoseconds since the epoch.
pub fn epoch_ns(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sealed(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> [u8; HEADER_LEN] {
        let mut bytes = Header::new(4096, 7, 8).encode();
        change(&mut bytes);
        let crc = crc::of(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn refusal(bytes: &[u8; HEADER_LEN]) -> String {
        Header::decode(bytes, 1000).unwrap_err().to_string()
    }

    #[test]
    fn a_header_survives() {
        let header = Header::new(1 << 40, -5, u64::MAX);
        assert_eq!(Header::decode(&header.encode(), 0).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = Header::new(4096, 1_700_000_000_123_456_789, 1_234_567).encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_named_before_the_crc() {
        let mut bytes = Header::new(4096, 7, 8).encode();
        bytes[8] = 9;
        assert!(refusal(&bytes).contains("format version 9"));
        assert!(refusal(&sealed(|b| b[8] = 0)).contains("version 0"));
    }

    #[test]
    fn each_field_has_its_refusal_and_its_offset() {
        assert!(refusal(&sealed(|b| b[12] = 183)).contains("offset 1012: the image is of machine type 183"));
        assert!(refusal(&sealed(|b| b[17] = 64)).contains("offset 1016: the image has pages of 16384 bytes"));
        assert!(refusal(&sealed(|b| b[20] = 72)).contains("offset 1020"));
        assert!(refusal(&sealed(|b| b[59] = 1)).contains("offset 1048: reserved"));
        assert!(refusal(&sealed(|b| b[8] = 1)).contains("offset 1040: reserved"), "version 1 had nothing there");
        assert!(refusal(&sealed(|b| b[24] = 1)).contains("offset 1024"));
        assert!(refusal(&sealed(|b| b[24..32].fill(0xff))).contains("impossible total"));
        assert!(refusal(&sealed(|b| b[24..32].fill(0))).contains("impossible total"));
    }

    #[test]
    fn what_is_packed_is_recognised() {
        let refusal = |bytes: &[u8]| check_magic(bytes, 0).unwrap_err().to_string();
        let zstd = "offset 0: this is zstd, not a ckptfs image: zstd -dc FILE | ...";
        assert_eq!(refusal(b"\x28\xb5\x2f\xfd\x04\x00\x01\x02"), zstd);
        assert!(refusal(b"\x1f\x8b\x08\x00\x00\x00\x00\x00").contains("gzip -dc"));
        assert!(refusal(b"age-encr").contains("age -d"));
        assert!(refusal(b"\x7fELF\x02\x01\x01\x00").contains("not core"));
        assert!(refusal(b"\x1f").contains("wrong magic"), "too short to tell");
    }

    #[test]
    fn text_mode_damage_is_recognised() {
        let refusal = |bytes: &[u8]| check_magic(bytes, 0).unwrap_err().to_string();
        assert!(refusal(b"\x89CKP\n\x1a\n\x01").contains("text mode (CR LF became LF)"));
        assert!(refusal(b"\x89CKP\r\r\n\x1a").contains("text mode (LF became CR LF)"));
        assert!(refusal(b"\x89CKP\r\n\n\x01").contains("text mode (^Z"));
        assert!(refusal(b"\x09CKP\r\n\x1a\n").contains("text mode (the high bit"));
        assert!(refusal(b"\xc2\x89CKP\r\n\x1a").contains("text mode (it was recoded"));
        assert!(refusal(b"\x7fELF\x02\x01\x01\0").contains("not a ckptfs image"));
    }
}

//! Makes images by hand: valid ones, and ones that no writer makes. Their checksums are correct.

use ckptfs_tests::image_header::crc;
use sha2::{Digest, Sha256};

/// The MAC of the bytes that it covers, with the key of `secret`.
pub fn mac(secret: &[u8], covered: &[u8]) -> String {
    let key = blake3::derive_key("ckptfs 2026-11-27 key of the MAC of an image", secret);
    blake3::keyed_hash(&key, covered).to_string()
}

/// An unfinished image. Its fields are public, because damage is done by changing them.
pub struct Forge {
    pub bytes: Vec<u8>,
    pub ordinal: u64,
    pub hash: Sha256,
}

impl Forge {
    pub fn new() -> Forge {
        Forge { bytes: vec![0; 64], ordinal: 0, hash: Sha256::new() }
    }

    pub fn record(&mut self, tag: &[u8; 4], flags: u32, json: &[u8], blob: &[u8]) {
        let mut body = json.to_vec();
        body.resize(json.len().next_multiple_of(8), 0);
        body.extend_from_slice(blob);
        body.resize(body.len().next_multiple_of(8), 0);
        self.record_with_body(tag, flags, json.len(), blob.len(), &body);
    }

    pub fn record_with_body(&mut self, tag: &[u8; 4], flags: u32, json_len: usize, blob_len: usize, body: &[u8]) {
        let header = self.header(tag, flags, json_len as u32, blob_len as u32, crc(body));
        self.hash.update(&header[24..]);
        self.bytes.extend_from_slice(body);
    }

    pub fn chunk(&mut self, addresses: &[u64], contents: &[u8]) {
        self.chunk_with(addresses, contents, 0, addresses.len());
    }

    /// A chunk with `padding` as its padding bytes and `count` in its footer.
    pub fn chunk_with(&mut self, addresses: &[u64], contents: &[u8], padding: u8, count: usize) {
        let list: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
        let header = self.header(b"PAGE", 0, addresses.len() as u32, 0, crc(&list));
        let content_crc = crc(contents);
        self.hash.update(content_crc.to_le_bytes());
        self.hash.update(&header[24..]);
        if !addresses.is_empty() {
            self.bytes.extend_from_slice(&list);
            self.bytes.resize(self.bytes.len().next_multiple_of(4096), padding);
            self.bytes.extend_from_slice(contents);
            self.bytes.extend_from_slice(&content_crc.to_le_bytes());
            self.bytes.extend_from_slice(&(count as u32).to_le_bytes());
        }
    }

    pub fn header(&mut self, tag: &[u8; 4], flags: u32, first: u32, second: u32, body_crc: u32) -> [u8; 32] {
        let mut header = [0; 32];
        header[..4].copy_from_slice(tag);
        header[4..8].copy_from_slice(&flags.to_le_bytes());
        header[8..12].copy_from_slice(&first.to_le_bytes());
        header[12..16].copy_from_slice(&second.to_le_bytes());
        header[16..24].copy_from_slice(&self.ordinal.to_le_bytes());
        header[24..28].copy_from_slice(&body_crc.to_le_bytes());
        let own = crc(&header[..28]);
        header[28..].copy_from_slice(&own.to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.ordinal += 1;
        header
    }

    /// The trailer that fits the frames so far.
    pub fn trailer_json(&self) -> String {
        let digest: String = self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{\"frames\":{},\"digest\":\"{digest}\"}}", self.ordinal)
    }

    /// Adds the trailer and the header.
    pub fn finish(self, time_ns: i64) -> Vec<u8> {
        self.finish_as(1, time_ns, 0)
    }

    /// The same with a format version and the time that the processes were stopped.
    pub fn finish_as(mut self, version: u32, time_ns: i64, stopped_ns: u64) -> Vec<u8> {
        let json = self.trailer_json();
        self.record(b"TEND", 0, json.as_bytes(), b"");
        let total = self.bytes.len() as u64;
        self.seal_as(version, total, time_ns, stopped_ns)
    }

    /// Adds the header, and the trailer of an image that is signed with the key of `secret`.
    pub fn finish_signed(self, secret: &[u8], time_ns: i64, stopped_ns: u64) -> Vec<u8> {
        self.finish_with_mac(time_ns, stopped_ns, |covered| mac(secret, covered))
    }

    /// The same with the MAC that `mac` makes of the bytes before the trailer.
    pub fn finish_with_mac(self, time_ns: i64, stopped_ns: u64, mac: impl FnOnce(&[u8]) -> String) -> Vec<u8> {
        self.finish_with(",\"mac\":\"{}\"}", (time_ns, stopped_ns), mac)
    }

    /// The same with this end of the trailer's JSON, where `{}` stands for the MAC.
    pub fn finish_with(self, end: &str, times: (i64, u64), mac: impl FnOnce(&[u8]) -> String) -> Vec<u8> {
        let json = self.trailer_json();
        let json_with = |mac: &str| format!("{}{}", json.trim_end_matches('}'), end.replace("{}", mac));
        let trailer_len = 32 + json_with(&"0".repeat(64)).len().next_multiple_of(8);
        let total = (self.bytes.len() + trailer_len) as u64;
        let Forge { ordinal, hash, .. } = self;
        let bytes = Forge { bytes: self.bytes, ordinal, hash: hash.clone() }.seal_as(2, total, times.0, times.1);
        let json = json_with(&mac(&bytes));
        let mut signed = Forge { bytes, ordinal, hash };
        signed.record(b"TEND", 0, json.as_bytes(), b"");
        signed.bytes
    }

    /// Adds only the header, with `total` in it.
    pub fn seal(self, total: u64, time_ns: i64) -> Vec<u8> {
        self.seal_as(1, total, time_ns, 0)
    }

    fn seal_as(mut self, version: u32, total: u64, time_ns: i64, stopped_ns: u64) -> Vec<u8> {
        let header = &mut self.bytes[..64];
        header[..8].copy_from_slice(b"\x89CKP\r\n\x1a\n");
        for (at, number) in [(8, version), (12, 62), (16, 4096), (20, 64)] {
            header[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        header[24..32].copy_from_slice(&total.to_le_bytes());
        header[32..40].copy_from_slice(&time_ns.to_le_bytes());
        header[40..48].copy_from_slice(&stopped_ns.to_le_bytes());
        let own = crc(&header[..60]);
        header[60..].copy_from_slice(&own.to_le_bytes());
        self.bytes
    }
}

//! Wrong images whose checksums are all correct: one test for each kind of error.

use ckptfs_dumper::image::Decoder;

use crate::events::{Events, decode, refusal};
use crate::forge::Forge;

const PAGE: [u8; 8192] = [7; 8192];

fn opened() -> Forge {
    let mut forge = Forge::new();
    forge.record(b"OPEN", 2, b"{}", b"");
    forge
}

/// The error for an image that continues like this after `OPEN`.
fn told(lie: impl FnOnce(&mut Forge)) -> String {
    let mut forge = opened();
    lie(&mut forge);
    refusal(&forge.finish(0))
}

#[test]
fn an_honest_image_passes() {
    let mut forge = opened();
    forge.chunk(&[0x1000, 0x2000], &PAGE);
    forge.chunk(&[], &[]);
    decode([&forge.finish(0)[..]]).1.unwrap();
    decode([&Forge::new().finish(0)[..]]).1.unwrap();
}

/// The reader accepts chunks of any size, and the last page that an address can name.
#[test]
fn chunks_need_not_be_full() {
    let mut forge = opened();
    forge.chunk(&[0], &PAGE[..4096]);
    forge.chunk(&[0x1000], &PAGE[..4096]);
    forge.chunk(&[0xffff_ffff_ffff_f000], &PAGE[..4096]);
    forge.chunk(&[], &[]);
    decode([&forge.finish(0)[..]]).1.unwrap();
}

#[test]
fn addresses() {
    assert!(told(|forge| forge.chunk(&[0x1000, 0x1000], &PAGE)).contains("page address 0x1000 does not ascend"));
    assert!(told(|forge| forge.chunk(&[0x2000, 0x1000], &PAGE)).contains("offset 144: page address 0x1000 does not"));
    assert!(
        told(|forge| forge.chunk(&[0x1001, 0x2000], &PAGE)).contains("offset 136: page address 0x1001 is not page")
    );
    let over_two_chunks = told(|forge| {
        forge.chunk(&[0x1000], &PAGE[..4096]);
        forge.chunk(&[0x1000], &PAGE[..4096]);
    });
    assert!(over_two_chunks.contains("page address 0x1000 does not ascend"));
}

#[test]
fn padding() {
    let told_of_chunk = told(|forge| forge.chunk_with(&[0x1000, 0x2000], &PAGE, 1, 2));
    assert!(told_of_chunk.contains("offset 152: the padding before a chunk's pages is not zero"));
    for (json, blob, body) in
        [(2, 0, b"{}\0\0\0\0\0\x01".to_vec()), (2, 1, b"{}\0\0\0\0\0\0A\0\0\0\0\0\0\x01".to_vec())]
    {
        let mut forge = Forge::new();
        forge.record_with_body(b"TASK", 0, json, blob, &body);
        assert!(refusal(&forge.finish(0)).contains("offset 96: the padding of record TASK is not zero"));
    }
}

#[test]
fn counts() {
    assert!(told(|forge| forge.chunk_with(&[0x1000, 0x2000], &PAGE, 0, 1)).contains("two counts of pages differ"));
    let too_many: Vec<u64> = (0..257).map(|page| page * 4096).collect();
    assert!(told(|forge| forge.chunk(&too_many, &vec![0; 257 * 4096])).contains("offset 112: a chunk says 257 pages"));
}

#[test]
fn frames_out_of_place() {
    assert!(told(|forge| forge.record(b"TASK", 0, b"{}", b"")).contains("record TASK stands inside a list of pages"));
    assert!(told(|_| ()).contains("record TEND stands inside a list of pages"));
    let mut forge = Forge::new();
    forge.chunk(&[0x1000, 0x2000], &PAGE);
    assert!(refusal(&forge.finish(0)).contains("offset 64: a chunk of pages that no record announced"));
    let mut forge = opened();
    forge.chunk(&[], &[]);
    forge.ordinal += 1;
    assert!(refusal(&forge.finish(0)).contains("frame 3 (TEND) stands where frame 2 should"));
    let mut forge = opened();
    forge.header(b"PAGE", 0, 0, 0, 5);
    assert!(refusal(&forge.finish(0)).contains("the CRC of no addresses is not 0"));
}

#[test]
fn totals() {
    let whole = |more: i64| {
        let mut forge = Forge::new();
        forge.record(b"TASK", 0, b"{}", b"");
        let json = forge.trailer_json();
        forge.record(b"TEND", 0, json.as_bytes(), b"");
        let total = (forge.bytes.len() as i64 + more) as u64;
        forge.seal(total, 0)
    };
    decode([&whole(0)[..]]).1.unwrap();
    assert!(refusal(&whole(8)).contains("the trailer ends the image at 224 bytes, its header says 232"));
    assert!(refusal(&whole(-8)).contains("reaches beyond the image's total of 216 bytes"));
    assert!(refusal(&whole(-104)).contains("offset 104: the image should end at 120 bytes, but no trailer"));
    assert!(refusal(&whole(-216)).contains("impossible total length"));
    assert!(refusal(&whole(1 << 60)).contains("the trailer ends the image at 224 bytes"));
}

#[test]
fn trailers() {
    for (json, told) in [
        ("{\"frames\":1,\"digest\":\"00\"}", "counts 1 frames, there are 0"),
        ("{\"frames\":0,\"digest\":\"00\"}", "the digest of the whole image does not hold"),
        ("{\"frames\":0}", "record TEND: the body is not understood: missing field `digest`"),
        ("[", "record TEND: the body is not understood"),
    ] {
        let mut forge = Forge::new();
        forge.record(b"TEND", 0, json.as_bytes(), b"");
        let total = forge.bytes.len() as u64;
        assert!(refusal(&forge.seal(total, 0)).contains(told), "{json}");
    }
    let mut forge = Forge::new();
    let json = forge.trailer_json();
    forge.record(b"TEND", 0, json.as_bytes(), b"blob");
    let total = forge.bytes.len() as u64;
    assert!(refusal(&forge.seal(total, 0)).contains("record TEND says a blob of 4 bytes"));
}

#[test]
fn flags() {
    for (tag, flags) in [(b"TASK", 4), (b"TASK", 0x8000_0000), (b"TEND", 1), (b"TEND", 2)] {
        let mut forge = Forge::new();
        forge.record(tag, flags, b"{}", b"");
        assert!(refusal(&forge.finish(0)).contains("has unknown flags"));
    }
}

fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// 256 readers that each get the header of the largest possible record. They would take 20 GiB if
/// they allocated what it announces.
#[test]
fn a_promised_length_costs_nothing() {
    let mut forge = Forge::new();
    forge.header(b"HUGE", 0, 16 << 20, 64 << 20, 0);
    let bytes = forge.seal(1 << 40, 0);
    let before = address_space();
    let readers: Vec<Decoder> = (0..256)
        .map(|_| {
            let mut decoder = Decoder::new(None);
            decoder.push(&bytes, &mut Events::default()).unwrap();
            decoder.push(&[b' '; 100], &mut Events::default()).unwrap();
            decoder
        })
        .collect();
    let grown = address_space().saturating_sub(before);
    assert!(grown < 4 << 30, "{} readers took {grown} bytes of address space", readers.len());
}

//! Signed images: with the key nothing else is accepted, without a key they are like all others.

use ckptfs_dumper::image::{Decoder, ImageFile, LayoutBuilder, PageRuns, Record, RecordSet, Tag};
use ckptfs_dumper::{Key, Kind};

use crate::events::{Event, decode, decode_by};
use crate::forge::{Forge, mac};
use crate::golden::add_sample;
use crate::sample::{Dice, STOOD_NS, TIME_NS, image, signed_layout, written};

const SECRET: &[u8] = b"no secret at all";

const NOT_SIGNED: &str = "the image is not signed: with a key, only images signed with it are accepted";
const WRONG: &str = "the image was signed with another key, or was changed after it was signed";

fn key() -> Key {
    Key::new(SECRET).unwrap()
}

/// The sample, signed.
fn signed() -> Vec<u8> {
    written(&signed_layout(&key()))
}

/// A signed image of one record and one page.
fn small() -> Vec<u8> {
    let mut builder = LayoutBuilder::signed(TIME_NS, key()).unwrap();
    builder.record(Record::new(Tag(*b"LIST"), &7).unwrap().opens_pages()).unwrap();
    let mut runs = PageRuns::new();
    runs.push(0x1000, 1);
    builder.pages(1, runs);
    written(&builder.finish().unwrap())
}

/// What the decoder with the key says about `bytes`, and whether it says it of the key.
fn refusal(bytes: &[u8]) -> Option<(String, bool)> {
    let (_, end) = decode_by(Decoder::new(Some(&key())), [bytes]);
    end.err().map(|error| (error.to_string(), error.kind() == Kind::KeyRejected))
}

#[test]
fn a_signed_image_passes_with_its_key_however_it_is_cut() {
    let whole = signed();
    let expected = decode([&whole[..]]).0;
    let mut dice = Dice(4);
    for longest in [1, 10, 100, 5000, 100_000] {
        let mut rest = &whole[..];
        let pieces = std::iter::from_fn(|| {
            let (piece, behind) = rest.split_at(rest.len().min(1 + dice.below(longest)));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        });
        let (events, end) = decode_by(Decoder::new(Some(&key())), pieces);
        end.unwrap();
        assert!(events == expected, "cut into pieces of up to {longest} bytes");
    }
}

#[test]
fn without_a_key_it_is_the_same_image() {
    let strip = |bytes: &[u8]| {
        let (events, end) = decode([bytes]);
        end.unwrap();
        let is_content = |event: &Event| match event {
            Event::Header(_) | Event::End(_) => false,
            Event::Record(record) => !record.is_signature(),
            _ => true,
        };
        events.into_iter().filter(is_content).collect::<Vec<_>>()
    };
    assert!(strip(&signed()) == strip(&image()));
    let events = decode([&signed()[..]]).0;
    let Some(Event::Record(first)) = events.get(1) else { panic!("no record") };
    // An older build skips it.
    assert!(first.is_signature() && first.optional && !first.pages && first.blob.is_empty());
}

/// The forge writes what is drawn: its MAC is the keyed hash of bytes that all lie before it.
#[test]
fn the_drawing_describes_it() {
    let mut forge = Forge::new();
    forge.record(b"SIGN", 1, br#"{"mac":"blake3"}"#, b"");
    add_sample(&mut forge);
    assert!(forge.finish_signed(SECRET, TIME_NS, STOOD_NS) == signed());
}

#[test]
fn every_flipped_bit_is_refused() {
    let whole = small();
    assert_eq!(refusal(&whole), None);
    let mut bytes = whole.clone();
    for bit in 0..whole.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refusal(&bytes).is_some(), "bit {bit}: not noticed");
        bytes[bit / 8] = whole[bit / 8];
    }
}

/// What a forger may change. All checksums are right in every case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    None,
    Page,
    Address,
    Json,
    Blob,
    Flag,
    Time,
    Order,
}

/// An image with the MAC of the unchanged one.
fn forged(change: Change) -> Vec<u8> {
    let is = |which| u8::from(change == which);
    let unsigned = |change: Change| {
        let is = |which| u8::from(change == which);
        let mut forge = Forge::new();
        forge.record(b"SIGN", 1, br#"{"mac":"blake3"}"#, b"");
        let json = [b"{\"n\":", &[b'1' + is(Change::Json)][..], b"}"].concat();
        let mut tags = [b"FRST", b"SCND"];
        tags.rotate_left(is(Change::Order).into());
        forge.record(tags[0], is(Change::Flag).into(), &json, &[is(Change::Blob); 9]);
        forge.record(tags[1], is(Change::Flag).into(), &json, &[is(Change::Blob); 9]);
        forge.record(b"LIST", 2, b"{}", b"");
        let mut page = [7; 4096];
        page[4095] ^= is(Change::Page);
        forge.chunk(&[0x1000 << is(Change::Address)], &page);
        forge.chunk(&[], &[]);
        forge
    };
    let honest = unsigned(Change::None).finish_signed(SECRET, TIME_NS, 0);
    let text = String::from_utf8_lossy(&honest).into_owned();
    let (_, mac) = text.rsplit_once("\"mac\":\"").unwrap();
    unsigned(change).finish_with_mac(TIME_NS + i64::from(is(Change::Time)), 0, |_| mac[..64].to_owned())
}

#[test]
fn a_forged_image_passes_without_a_key_and_is_refused_with_it() {
    assert_eq!(refusal(&forged(Change::None)), None);
    let changes =
        [Change::Page, Change::Address, Change::Json, Change::Blob, Change::Flag, Change::Time, Change::Order];
    for change in changes {
        let bytes = forged(change);
        decode([&bytes[..]]).1.unwrap();
        let (told, of_key) = refusal(&bytes).unwrap_or_else(|| panic!("{change:?}: not noticed"));
        assert!(of_key && told.ends_with(WRONG), "{change:?}: {told}");
        assert!(told.starts_with("offset "), "{change:?}: {told}");
    }
}

#[test]
fn a_forger_who_leaves_the_signature_out_is_refused_at_the_first_frame() {
    let told = format!("offset 64: {NOT_SIGNED}");
    for bytes in [&image()[..], &include_bytes!("golden-v1.ckpt")[..], &Forge::new().finish(0)] {
        let (events, end) = decode_by(Decoder::new(Some(&key())), [bytes]);
        let error = end.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (Kind::KeyRejected, told.clone()));
        assert!(matches!(events[..], [Event::Header(_)]), "a record has reached the sink");
    }
    // The record alone is no signature, and neither is one that comes later.
    let mut forge = Forge::new();
    forge.record(b"SIGN", 1, br#"{"mac":"blake3"}"#, b"");
    let (refused, of_key) = refusal(&forge.finish_as(2, TIME_NS, 0)).unwrap();
    assert!(of_key && refused.ends_with(WRONG), "{refused}");
    let mut forge = Forge::new();
    forge.record(b"TASK", 0, b"{}", b"");
    forge.record(b"SIGN", 1, br#"{"mac":"blake3"}"#, b"");
    assert_eq!(refusal(&forge.finish_signed(SECRET, TIME_NS, 0)), Some((told, true)));
}

#[test]
fn what_no_mac_covers_is_as_it_was_written() {
    let with_end = |end: &str| {
        let mut forge = Forge::new();
        forge.record(b"SIGN", 1, br#"{"mac":"blake3"}"#, b"");
        forge.finish_with(end, (0, 0), |covered| mac(SECRET, covered))
    };
    assert_eq!(refusal(&with_end(",\"mac\":\"{}\"}")), None);
    for end in [
        ",\"mac\":\"{}\",\"more\":1}",
        ", \"mac\":\"{}\"}",
        ",\"mac\":\"{}\"} ",
        ",\"mac\":\"{}0\"}",
        ",\"mac\":\"\"}",
        ",\"mac\":null}",
        "}",
    ] {
        let bytes = with_end(end);
        decode([&bytes[..]]).1.unwrap();
        let (told, of_key) = refusal(&bytes).unwrap_or_else(|| panic!("{end}: not noticed"));
        assert!(of_key && told.ends_with(WRONG), "{end}: {told}");
    }
}

#[test]
fn another_key_is_refused() {
    let whole = signed();
    let other = Key::new(b"no secret at all\n").unwrap();
    let (events, end) = decode_by(Decoder::new(Some(&other)), [&whole[..]]);
    let error = end.unwrap_err();
    assert!(error.to_string().ends_with(WRONG) && error.kind() == Kind::KeyRejected, "{error}");
    assert!(!events.iter().any(|event| matches!(event, Event::End(_))));
}

#[test]
fn another_way_to_sign_is_named() {
    let mut forge = Forge::new();
    forge.record(b"SIGN", 1, br#"{"mac":"later"}"#, b"");
    let bytes = forge.finish_signed(SECRET, 0, 0);
    decode([&bytes[..]]).1.unwrap();
    let (told, of_key) = refusal(&bytes).unwrap();
    assert!(of_key && told.contains("the image is signed with \"later\", this build knows blake3"), "{told}");
}

/// Each image of an input is signed by itself.
#[test]
fn every_image_of_an_input_is_verified() {
    let (one, zeros) = (signed(), [0; 700]);
    assert_eq!(refusal(&[&one[..], &zeros, &small(), &zeros].concat()), None);
    let (told, of_key) = refusal(&[&one[..], &zeros, &image()].concat()).unwrap();
    assert!(of_key && told == format!("offset {}: {NOT_SIGNED}", one.len() + 700 + 64), "{told}");
}

#[test]
fn a_stored_file_is_verified_when_it_is_opened() {
    let open = |bytes: &[u8], key: &Key| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        ImageFile::open(file.path(), Some(key))
    };
    let lists = |index: &ImageFile| -> Vec<_> {
        let runs = index.records().filter_map(|record| record.pages);
        runs.map(|(list, runs)| (list, (0..runs.pages()).filter_map(|n| runs.nth(n)).collect::<Vec<_>>())).collect()
    };
    let whole = signed();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &whole).unwrap();
    let plain = ImageFile::open(file.path(), None).unwrap();
    let verified = open(&[&whole[..], &[0; 5000]].concat(), &key()).unwrap();
    assert_eq!(lists(&verified), lists(&plain));
    let other = Key::new(&[1; 16]).unwrap();
    for (bytes, key, told) in [
        (&whole[..], &other, WRONG),
        (&forged(Change::Page), &key(), WRONG),
        (&image(), &key(), NOT_SIGNED),
        (&whole[..whole.len() - 1], &key(), "is truncated"),
        (&whole[..9000], &key(), "is truncated"),
    ] {
        let error = open(bytes, key).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

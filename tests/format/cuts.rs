//! How an image is divided into pieces on arrival makes no difference. Only zeros or another image
//! may follow an image.

use ckptfs_dumper::image::{LayoutBuilder, PageRuns, Record, Tag};

use crate::events::{Event, decode, refusal};
use crate::sample::{Dice, image, written};

/// An image with more than one chunk in a list, and with runs of many lengths.
fn big() -> Vec<u8> {
    let mut builder = LayoutBuilder::new(1);
    for source in 0..3 {
        builder.record(Record::new(Tag(*b"LIST"), &source).unwrap().opens_pages()).unwrap();
        let mut runs = PageRuns::new();
        (1..30u64).for_each(|n| runs.push(n << 20, n * (source as u64 + 1) % 31));
        builder.pages(source, runs);
    }
    written(&builder.finish().unwrap())
}

#[test]
fn random_cuts_give_equal_events() {
    let mut dice = Dice(3);
    for whole in [image(), big()] {
        let (expected, end) = decode([&whole[..]]);
        end.unwrap();
        for _ in 0..60 {
            let longest = [1, 10, 100, 5000, 100_000][dice.below(5)].max(whole.len() / 20_000);
            let mut rest = &whole[..];
            let pieces = std::iter::from_fn(|| {
                let (piece, behind) = rest.split_at(rest.len().min(1 + dice.below(longest)));
                rest = behind;
                (!piece.is_empty()).then_some(piece)
            });
            let (events, end) = decode(pieces);
            end.unwrap();
            assert!(events == expected, "cut into pieces of up to {longest} bytes");
        }
    }
}

#[test]
fn byte_by_byte() {
    let whole = image();
    let (events, end) = decode(whole.chunks(1));
    end.unwrap();
    assert!(events == decode([&whole[..]]).0);
}

#[test]
fn zeros_and_a_next_image_may_follow() {
    let whole = image();
    let alone = decode([&whole[..]]).0;
    for zeros in [0, 1, 7, 512, 4096, 10_240] {
        let between = vec![0; zeros];
        let (events, end) = decode([&whole[..], &between]);
        end.unwrap();
        assert!(events == alone);
        let (events, end) = decode([&whole[..], &between, &whole, &between]);
        end.unwrap();
        assert!(events[..alone.len()] == alone && events[alone.len()..] == alone);
        assert!(matches!(events.last(), Some(Event::End(_))));
    }
}

#[test]
fn nothing_else_may_follow() {
    let whole = image();
    for junk in [&b"junk and more junk"[..], b"j", b"\0\0j"] {
        let told = refusal(&[&whole[..], junk].concat());
        let at = whole.len() + junk.iter().take_while(|byte| **byte == 0).count();
        assert_eq!(told, format!("offset {at}: neither zeros nor an image stand behind a complete image"));
    }
    let told = refusal(&[&whole[..], &[0; 5], &whole[..100]].concat());
    assert!(told.contains("truncated: 100 of"));
}

#[test]
fn nothing_may_precede() {
    assert!(refusal(&[&[0][..], &image()].concat()).contains("offset 0: not a ckptfs image"));
    let (events, end) = decode([]);
    assert!(events.is_empty() && end.is_ok());
}

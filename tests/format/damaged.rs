//! A complete image, damaged in every place. No damage may be accepted, and none may cause a panic.

use crate::events::{decode, refusal};
use crate::sample::{Dice, image};

#[test]
fn truncated_anywhere() {
    let whole = image();
    for len in 1..whole.len() {
        let told = refusal(&whole[..len]);
        assert!(told.contains("truncated"), "{len} bytes: {told}");
        assert!(told.starts_with(&format!("offset {len}:")), "{len} bytes: {told}");
    }
}

#[test]
fn any_bit_flipped() {
    let whole = image();
    let mut bytes = whole.clone();
    for bit in 0..whole.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode([&bytes[..]]).1.is_err(), "bit {bit}: not noticed");
        bytes[bit / 8] = whole[bit / 8];
    }
}

#[test]
fn mutated_at_random() {
    let whole = image();
    let mut dice = Dice(1);
    for round in 0..5000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len() - 1);
            let len = 1 + dice.below((bytes.len() - at).min(5000) - 1).min(1 << dice.below(13));
            let from = dice.below(bytes.len() - len);
            match dice.below(5) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => drop(bytes.drain(at..at + len)),
                2 => bytes.splice(at..at, whole[..len].to_vec()).for_each(drop),
                3 => bytes.copy_within(from..from + len, at),
                _ => bytes[at..at + len].fill([0, 0xff][dice.below(2)]),
            }
        }
        // Zeros after the image are no damage.
        let same = bytes.starts_with(&whole) && bytes[whole.len()..].iter().all(|byte| *byte == 0);
        assert_eq!(decode([&bytes[..]]).1.is_ok(), same, "round {round}");
    }
}

#[test]
fn noise() {
    let mut dice = Dice(2);
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..dice.below(300) + 1).map(|_| dice.below(256) as u8).collect();
        refusal(&bytes);
        // Noise after a good beginning.
        let whole = image();
        let keep = dice.below(2000);
        bytes.splice(0..0, whole[..keep].iter().copied());
        assert!(decode([&bytes[..]]).1.is_err());
    }
}

#[test]
fn text_mode() {
    let whole = image();
    let to_lf = String::from_utf8_lossy(&whole[1..8]).replace("\r\n", "\n").into_bytes();
    let damaged = [&whole[..1], &to_lf, &whole[8..]].concat();
    assert!(refusal(&damaged).contains("text mode"));
}

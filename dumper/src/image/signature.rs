//! The signature of an image: the record that says that it is signed, and why an image is refused.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::image::format::{MAC_NAME, SIGNED_TAG};
use crate::image::frame::{Record, Tag};

/// The body of the record SIGN. It is the first record of a signed image.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    mac: String,
}

/// How many characters of an unknown way to sign an error shows.
const NAME_SHOWN: usize = 32;

/// The record that begins a signed image. A reader without a key may skip it.
pub(super) fn signed() -> Result<Record> {
    Ok(Record::new(Tag(SIGNED_TAG), &Signed { mac: MAC_NAME.to_string() })?.optional())
}

/// Checks that the image is signed in the way that this build knows. The first record is `record`.
pub(super) fn check_signed(record: &Record) -> Result<()> {
    let Signed { mac } = record.body()?;
    if mac == MAC_NAME {
        return Ok(());
    }
    // Whoever made the image chose the name. It may be as long as a record.
    let mac: String = mac.chars().take(NAME_SHOWN).collect();
    Err(rejected(format!("the image is signed with {mac:?}, this build knows {MAC_NAME}: a newer ckptfs may know it")))
}

/// The error for an image that is not signed, if a key is given.
pub(super) fn not_signed(at: u64) -> Error {
    rejected(format!("offset {at}: the image is not signed: with a key, only images signed with it are accepted"))
}

/// The error for a MAC that is wrong.
pub(super) fn wrong_mac(at: u64) -> Error {
    rejected(format!("offset {at}: the image was signed with another key, or was changed after it was signed"))
}

fn rejected(sentence: String) -> Error {
    Error::new(Kind::KeyRejected, sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn another_way_to_sign_is_named() {
        check_signed(&signed().unwrap()).unwrap();
        let other = Record::new(Tag(SIGNED_TAG), &Signed { mac: "rot13".into() }).unwrap();
        let error = check_signed(&other).unwrap_err();
        assert_eq!(error.kind(), Kind::KeyRejected);
        assert!(error.to_string().contains("signed with \"rot13\""));
        let long = Record::new(Tag(SIGNED_TAG), &Signed { mac: "x".repeat(1 << 20) }).unwrap();
        assert!(check_signed(&long).unwrap_err().to_string().len() < 200);
    }
}

//! A stored file: it is refused for the same reasons as a stream of the same bytes. Its pages are
//! checked against their CRC when they are read.

use std::collections::BTreeMap;
use std::path::Path;

use ckptfs_dumper::image::{ImageFile, PageSource, RecordSet};

use crate::events::{Event, decode};
use crate::sample::{LISTS, byte_at, image, records};

/// The index of a file with these bytes, or the error sentence.
fn index(bytes: &[u8]) -> Result<ImageFile, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    ImageFile::open(file.path(), None).map_err(|error| without_name(error, file.path()))
}

fn without_name(error: impl ToString, path: &Path) -> String {
    let told = error.to_string();
    told.strip_prefix(&format!("{}: ", path.display())).unwrap_or_else(|| panic!("{told}")).to_owned()
}

/// The error sentence of the stream reader.
fn refusal(bytes: &[u8]) -> Option<String> {
    decode([bytes]).1.err().map(|error| error.to_string())
}

/// All pages of the index, by list and address.
fn pages(index: &ImageFile) -> Result<BTreeMap<(usize, u64), Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    for (list, runs) in index.records().filter_map(|record| record.pages) {
        for page in (0..runs.pages()).filter_map(|n| runs.nth(n)) {
            let mut bytes = vec![0; 4096];
            index.read(list, page, &mut bytes).map_err(|error| error.to_string())?;
            found.insert((list, page), bytes);
        }
    }
    Ok(found)
}

#[test]
fn it_holds_what_the_stream_holds() {
    let index = index(&image()).unwrap();
    let told: Vec<_> = index.records().map(|it| (it.tag, it.json.to_vec(), it.blob.to_vec())).collect();
    assert_eq!(told, records().into_iter().map(|it| (it.tag, it.json, it.blob)).collect::<Vec<_>>());
    for (n, (source, runs)) in LISTS.iter().enumerate() {
        for (address, len) in *runs {
            // From inside a page, beyond the end of a run's pages.
            let mut bytes = vec![0; (len * 4096 - 100) as usize];
            index.read(n, address + 50, &mut bytes).unwrap();
            assert!(bytes.iter().zip(address + 50..).all(|(byte, at)| *byte == byte_at(*source, at)));
            assert!(index.read(n, address + 50, &mut vec![0; (len * 4096) as usize]).is_err(), "beyond the run");
        }
    }
    assert!(index.read(0, 0x1000, &mut [0]).is_err() && index.read(9, 0x1000, &mut [0]).is_err());
    assert!(index.read_at(0, usize::MAX >> 1).unwrap() == image());
}

#[test]
fn zeros_behind_it_are_nothing_and_another_image_is_refused() {
    let mut padded = image();
    padded.resize(padded.len() + (3 << 20) + 5, 0);
    assert!(index(&padded).is_ok());
    padded.extend(image());
    assert!(index(&padded).unwrap_err().contains("a second image"));
}

#[test]
fn cut_anywhere_it_is_refused_like_the_stream() {
    let whole = image();
    let interesting = (0..300).chain((300..whole.len()).step_by(61)).chain(whole.len() - 300..whole.len());
    for len in interesting.filter(|len| *len > 0) {
        assert_eq!(index(&whole[..len]).err(), refusal(&whole[..len]), "{len} bytes");
    }
    assert!(index(&[]).unwrap_err().contains("there is no image"));
}

#[test]
fn with_a_bit_flipped_anywhere_it_is_refused_like_the_stream() {
    let whole = image();
    let mut in_pages = 0;
    for at in (0..whole.len()).step_by(7).chain(0..200) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let told = refusal(&bytes).unwrap();
        match index(&bytes) {
            // The index does not read pages, so it cannot distinguish a wrong footer from wrong
            // pages. The digest shows that one of them is wrong.
            Err(sentence) if told.contains("the CRC of the pages") => {
                assert!(sentence.contains("the digest"), "{sentence}")
            }
            Err(sentence) => assert_eq!(sentence, told, "byte {at}"),
            Ok(index) => {
                let error = pages(&index).unwrap_err();
                assert!(error.ends_with(&told), "byte {at}: {error}, not {told}");
                in_pages += 1;
            }
        }
    }
    // Most flips are in the pages: four pages of an image of little more than six.
    assert!(in_pages * 7 > 3 * 4096, "{in_pages}");
    let (events, _) = decode([&whole[..]]);
    let in_stream = events.iter().filter(|event| matches!(event, Event::Pages(..))).count();
    assert_eq!((in_stream, pages(&index(&whole).unwrap()).unwrap().len()), (3, 4));
}

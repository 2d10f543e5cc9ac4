#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;

use crate::cli::inspect::*;

/// One record of every sort. `tests/format/sample.rs` lists what is in it.
const GOLDEN: &[u8] = include_bytes!("../../../../tests/format/golden-v2.ckpt");

fn text(run: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> (String, Option<String>) {
    let mut out = Vec::new();
    let end = run(&mut out);
    (String::from_utf8(out).unwrap(), end.err().map(|error| error.to_string()))
}

fn verified(bytes: &[u8]) -> (String, Option<String>) {
    text(|out| verify(&mut &bytes[..], "snap", None, out))
}

fn document(bytes: &[u8]) -> (Value, Option<String>) {
    let (out, error) = text(|out| inspect(&mut &bytes[..], "snap", Form::Json, out));
    (serde_json::from_str(&out).unwrap(), error)
}

#[test]
fn whole_images_are_counted() {
    let bytes = GOLDEN.len();
    assert_eq!(verified(GOLDEN), (format!("snap: whole: 1 image, 6 records, 4 pages, {bytes} bytes\n"), None));
    let two = [GOLDEN, &[0; 700], GOLDEN, &[0; 5]].concat();
    let told = format!("snap: whole: 2 images, 12 records, 8 pages, {} bytes\n", 2 * bytes);
    assert_eq!(verified(&two), (told, None));
}

#[test]
fn what_is_not_whole_is_told_with_its_offset() {
    let (out, error) = verified(&GOLDEN[..5000]);
    assert!(out.is_empty());
    assert!(error.unwrap().starts_with("snap: offset 5000: the image is truncated: 5000 of"));
    assert!(verified(b"").1.unwrap().contains("offset 0: empty"));
    assert!(verified(b"#!/bin/sh\nexit\n").1.unwrap().contains("not a ckptfs image"));
}

#[test]
fn the_tables_tell_what_is_there() {
    let (out, error) = text(|out| inspect(&mut &GOLDEN[..], "snap", Form::Records, out));
    assert_eq!(error, None);
    for line in [
        "image 1: 24856 bytes, taken 2023-11-14T22:13:20.123456789Z, stood still for 1234 us",
        "format version 2, machine 62, pages of 4096 bytes",
        "     0 TASK        27        77  pid=4711 comm=sleep",
        "     5 DONE        73         0  frozen=false limits={1} nice=-5 threads=[2]",
        "     1 VMAR     0x555500000000     0x555500005000         3       2",
        "     2 VMAR     0x600000000000     0x600000001000         0       0",
        "     4 VMAR       7fffffff0000       7ffffffff000         1       1",
        "total: 1 image, 6 records, 4 pages, 24856 bytes",
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} is missing in\n{out}");
    }
}

#[test]
fn the_document_holds_the_bodies() {
    let (document, error) = document(&[GOLDEN, GOLDEN].concat());
    assert_eq!(error, None);
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0], images[1]);
    assert_eq!(images[0]["header"]["total"], GOLDEN.len());
    assert_eq!(images[0]["whole"], true);
    let records = images[0]["records"].as_array().unwrap();
    assert_eq!(records.len(), 6);
    assert_eq!(records[0]["tag"], "TASK");
    assert_eq!(records[0]["body"]["pid"], 4711);
    assert_eq!(records[0]["blob_bytes"], 77);
    assert_eq!(records[0]["pages"], Value::Null);
    assert_eq!(records[1]["pages"], 3);
    assert_eq!(records[2]["pages"], 0);
    assert_eq!(records[3]["optional"], true);
    assert_eq!(document.get("error"), None);
}

/// Damage anywhere leaves a document that parses and reports the damage.
#[test]
fn a_damaged_image_gives_a_document_with_the_error() {
    for len in (1..GOLDEN.len()).step_by(61) {
        let (document, error) = document(&GOLDEN[..len]);
        assert_eq!(document["error"], error.unwrap());
        assert!(document["images"].as_array().unwrap().iter().all(|image| image["whole"] == false));
    }
}

/// A broken pipe is reported as the pipe's error, not as the image's.
#[test]
fn an_output_that_fails_is_an_error_of_its_own() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = verify(&mut &GOLDEN[..], "snap", None, &mut Full).unwrap_err();
    assert_eq!(error.to_string(), "writing the result: no space left on device");
    for form in [Form::Tables, Form::Records, Form::Json] {
        assert!(matches!(
            inspect(&mut &GOLDEN[..], "snap", form, &mut Full).unwrap_err().kind(),
            ckptfs_dumper::Kind::System(28)
        ));
    }
}

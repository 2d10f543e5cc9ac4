//! An image of each format version, written once and kept. Every build must understand all of them,
//! and must write the one of its own version again byte for byte.

use ckptfs_dumper::image::Header;

use crate::events::{Event, decode};
use crate::forge::Forge;
use crate::sample::{LISTS, STOOD_NS, TIME_NS, byte_at, image, records};

const V1: &[u8] = include_bytes!("golden-v1.ckpt");
const V2: &[u8] = include_bytes!("golden-v2.ckpt");
/// Version, time that the processes were stopped, bytes.
const GOLDEN: [(u32, u64, &[u8]); 2] = [(1, 0, V1), (2, STOOD_NS, V2)];

#[test]
fn each_decodes_to_what_it_was_made_of() {
    for (version, stopped_ns, golden) in GOLDEN {
        decodes(golden, version, stopped_ns);
    }
}

fn decodes(golden: &[u8], version: u32, stopped_ns: u64) {
    let total = golden.len() as u64;
    let header = Header { version, arch: 62, page_size: 4096, total, time_ns: TIME_NS, stopped_ns };
    let mut expected = vec![Event::Header(header)];
    let mut lists = LISTS.iter();
    for record in records() {
        let opens = record.pages;
        expected.push(Event::Record(record));
        if opens {
            let (source, runs) = lists.next().unwrap();
            expected.extend(runs.iter().map(|(address, pages)| {
                Event::Pages(*address, (*address..address + pages * 4096).map(|at| byte_at(*source, at)).collect())
            }));
            expected.push(Event::EndOfPages);
        }
    }
    expected.push(Event::End(total));
    let (events, end) = decode([golden]);
    end.unwrap();
    assert_eq!(events, expected);
}

#[test]
fn the_writer_writes_it_again() {
    assert!(image() == V2, "the writer's bytes are not those of format version 2");
}

/// The forge writes the bytes as the format is drawn, and shares no code with the writer.
#[test]
fn the_drawing_describes_each() {
    for (version, stopped_ns, golden) in GOLDEN {
        assert!(forged().finish_as(version, TIME_NS, stopped_ns) == golden, "version {version}");
    }
}

fn forged() -> Forge {
    let mut forge = Forge::new();
    add_sample(&mut forge);
    forge
}

/// Adds the records of the sample and their pages.
pub fn add_sample(forge: &mut Forge) {
    let mut lists = LISTS.iter();
    for record in records() {
        let flags = u32::from(record.optional) | u32::from(record.pages) << 1;
        forge.record(&record.tag.0, flags, &record.json, &record.blob);
        if record.pages {
            let (source, runs) = lists.next().unwrap();
            let addresses: Vec<u64> = runs.iter().flat_map(|(a, n)| (0..*n).map(move |i| a + i * 4096)).collect();
            let bytes: Vec<u8> = addresses.iter().flat_map(|a| (*a..a + 4096).map(|at| byte_at(*source, at))).collect();
            if !addresses.is_empty() {
                forge.chunk(&addresses, &bytes);
            }
            forge.chunk(&[], &[]);
        }
    }
}

/// Two images of an unchanged process differ only in the times and the CRC of the header.
#[test]
fn only_the_time_differs() {
    let mut later = image();
    ckptfs_tests::image_header::change_time(&mut later);
    decode([&later[..]]).1.unwrap();
}

//! Feeds an image to a sink, and counts what passes.

use std::io::{ErrorKind, Read};

use ckptfs_dumper::image::{self, Decoder, Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::{Context, Doing, Key, Result};

/// Decodes all of `input` into `sink`. With a `key` every image must be signed with it.
pub fn feed(input: &mut dyn Read, name: &str, key: Option<&Key>, sink: &mut dyn Sink) -> Result<()> {
    let mut decoder = Decoder::new(key);
    let mut buf = vec![0; 1 << 20];
    loop {
        let len = match input.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).doing(|| format!("{name}: reading at offset {}", decoder.offset())),
        };
        decoder.push(&buf[..len], sink).on(|| name)?;
    }
    if decoder.offset() == 0 {
        return Err(image::empty(name));
    }
    decoder.finish().on(|| name)
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub images: u64,
    records: u64,
    pages: u64,
    bytes: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for (count, what) in
            [(self.images, "image"), (self.records, "record"), (self.pages, "page"), (self.bytes, "byte")]
        {
            write!(f, "{separator}{count} {what}{}", if count == 1 { "" } else { "s" })?;
            separator = ", ";
        }
        Ok(())
    }
}

impl Sink for Totals {
    fn header(&mut self, _: &Header) -> Result<()> {
        Ok(())
    }

    fn record(&mut self, _: Record) -> Result<()> {
        self.records += 1;
        Ok(())
    }

    fn pages(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        self.pages += bytes.len() as u64 / PAGE_SIZE;
        Ok(())
    }

    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, total: u64) -> Result<()> {
        self.images += 1;
        self.bytes += total;
        Ok(())
    }
}

//! `ckptfs verify`, `ckptfs inspect` and `ckptfs diff`: is an image whole, what is in it, and in
//! what do two differ. All read a stream from front to back. What is told record by record knows no
//! kind of them: what a later version stores shows up by itself.

pub mod contents;
pub mod diff;
pub mod json;
pub mod records;
pub mod tables;

use std::io::{ErrorKind, Read, Write};

use ckptfs_dumper::image::{Decoder, Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::{Context, Doing, Error, Result};

/// Reads all of `input` (called `name` in every message) and writes one line if it is whole: how
/// many images, records, pages and bytes. The error says at which offset it is not.
pub fn verify(input: &mut dyn Read, name: &str, out: &mut dyn Write) -> Result<()> {
    let mut totals = Totals::default();
    feed(input, name, &mut totals)?;
    writeln!(out, "{name}: whole: {totals}").doing(|| "writing the result")
}

/// How `ckptfs inspect` tells what is in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Processes, memory and descriptors, for a person.
    Tables,
    /// A line for every record.
    Records,
    /// One JSON document.
    Json,
}

/// Writes what is in `input` (called `name` in every message). Of a damaged image what stands
/// before the damage is written, and the error says where that is.
pub fn inspect(input: &mut dyn Read, name: &str, form: Form, out: &mut dyn Write) -> Result<()> {
    match form {
        Form::Json => {
            let mut document = json::Document::new(out)?;
            let end = feed(input, name, &mut document);
            document.close(end.as_ref().err())?;
            end
        }
        Form::Records => {
            let mut records = records::Records::new(out);
            let end = feed(input, name, &mut records);
            records.close()?;
            end
        }
        Form::Tables => {
            let mut tables = tables::Tables::new(out);
            let end = feed(input, name, &mut tables);
            tables.close()?;
            end
        }
    }
}

/// Writes in what two images differ, for a person or as JSON; whether they are the same but for
/// their times.
pub fn diff(a: (&mut dyn Read, &str), b: (&mut dyn Read, &str), json: bool, out: &mut dyn Write) -> Result<bool> {
    diff::diff(a, b, json, out)
}

/// Decodes all of `input` into `sink`.
fn feed(input: &mut dyn Read, name: &str, sink: &mut dyn Sink) -> Result<()> {
    let mut decoder = Decoder::new();
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
        return Err(Error::damaged(format!("{name}: offset 0: empty: there is no image")));
    }
    decoder.finish().on(|| name)
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    images: u64,
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

#[cfg(test)]
mod tests;

//! `ckptfs verify`, `ckptfs inspect` and `ckptfs diff`: whether an image is whole, what is in it,
//! and how two differ. All read a stream from front to back. The output by record depends on no
//! kind of record, so it includes what a later version stores.

pub mod contents;
pub mod diff;
pub mod feed;
pub mod json;
pub mod records;
pub mod tables;

use std::io::{Read, Write};

use ckptfs_dumper::{Doing, Key, Result};

use crate::cli::inspect::feed::{Totals, feed};

/// Reads all of `input` (called `name` in every message) and writes one line if it is whole: how
/// many images, records, pages and bytes. Otherwise the error has the offset of the damage. With a
/// `key` every image must be signed with it.
pub fn verify(input: &mut dyn Read, name: &str, key: Option<&Key>, out: &mut dyn Write) -> Result<()> {
    let mut totals = Totals::default();
    feed(input, name, key, &mut totals)?;
    let signed = if key.is_some() { ", signed with the key" } else { "" };
    writeln!(out, "{name}: whole{signed}: {totals}").doing(|| "writing the result")
}

/// The form in which `ckptfs inspect` shows an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Processes, memory and descriptors, as tables for people.
    Tables,
    /// A line for every record.
    Records,
    /// One JSON document.
    Json,
}

/// Writes the contents of `input` (called `name` in every message). For a damaged image it writes
/// what comes before the damage, and the error has its offset.
pub fn inspect(input: &mut dyn Read, name: &str, form: Form, out: &mut dyn Write) -> Result<()> {
    match form {
        Form::Json => {
            let mut document = json::Document::new(out)?;
            let end = feed(input, name, None, &mut document);
            document.close(end.as_ref().err())?;
            end
        }
        Form::Records => {
            let mut records = records::Records::new(out);
            let end = feed(input, name, None, &mut records);
            records.close()?;
            end
        }
        Form::Tables => {
            let mut tables = tables::Tables::new(out);
            let end = feed(input, name, None, &mut tables);
            tables.close()?;
            end
        }
    }
}

/// Writes the differences of two images, as text or as JSON. Returns whether they are the same
/// except for their times.
pub fn diff(a: (&mut dyn Read, &str), b: (&mut dyn Read, &str), json: bool, out: &mut dyn Write) -> Result<bool> {
    diff::diff(a, b, json, out)
}

#[cfg(test)]
mod tests;

//! `ckptfs verify`, `ckptfs inspect` and `ckptfs diff`: is an image whole, what is in it, and in
//! what do two differ. All read a stream from front to back. What is told record by record knows no
//! kind of them: what a later version stores shows up by itself.

pub mod contents;
pub mod diff;
pub mod feed;
pub mod json;
pub mod records;
pub mod tables;

use std::io::{Read, Write};

use ckptfs_dumper::{Doing, Result};

use crate::cli::inspect::feed::{Totals, feed};

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

#[cfg(test)]
mod tests;

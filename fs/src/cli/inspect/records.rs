//! An image record by record: its header, a line for each record, its memory, the sums.

use std::io::Write;

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record, Sink};
use ckptfs_dumper::{Doing, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::inspect::feed::Totals;

/// The most informative fields of a record, in this order. Its other fields follow.
const TELLING: [&str; 12] = ["pid", "tid", "fd", "id", "kind", "type", "comm", "name", "path", "start", "end", "file"];

/// Fields that are addresses, printed in hexadecimal.
const ADDRESSES: [&str; 3] = ["start", "end", "address"];

/// How many characters of a record's fields are shown.
const WIDTH: usize = 100;

/// The records of the images of one input. Records are written as they come, memory when its image
/// ends.
pub(super) struct Records<'a> {
    out: &'a mut dyn Write,
    /// All images.
    totals: Totals,
    /// Frames of this image so far.
    records: u64,
    memory: Vec<Memory>,
    /// Whether the last list of pages of this image is still open.
    open: bool,
}

/// A list of pages.
struct Memory {
    record: u64,
    tag: String,
    start: String,
    end: String,
    runs: u64,
    pages: u64,
    /// The address behind its last page.
    next: Option<u64>,
}

impl<'a> Records<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Records<'a> {
        Records { out, totals: Totals::default(), records: 0, memory: Vec::new(), open: false }
    }

    /// Writes the rest of an image without an end, and the sums.
    pub(super) fn close(&mut self) -> Result<()> {
        self.memory()?;
        let totals = self.totals;
        self.line(format_args!("total: {totals}"))
    }

    fn memory(&mut self) -> Result<()> {
        let memory = std::mem::take(&mut self.memory);
        if memory.is_empty() {
            return Ok(());
        }
        self.line(format_args!("\n{:>6} TAG  {:>18} {:>18} {:>9} {:>7}", "MEMORY", "START", "END", "PAGES", "RUNS"))?;
        for Memory { record, tag, start, end, runs, pages, .. } in memory {
            self.line(format_args!("{record:>6} {tag:<4} {start:>18} {end:>18} {pages:>9} {runs:>7}"))?;
        }
        Ok(())
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.out, "{text}").doing(|| "writing the tables")
    }
}

impl Sink for Records<'_> {
    fn header(&mut self, header: &Header) -> Result<()> {
        let Header { version, arch, page_size, total, time_ns, stopped_ns } = header;
        let taken =
            Timestamp::from_nanosecond(i128::from(*time_ns)).map_or(time_ns.to_string(), |time| time.to_string());
        self.records = 0;
        let number = self.totals.images + 1;
        let stood =
            if *stopped_ns == 0 { String::new() } else { format!(", stood still for {} us", stopped_ns / 1000) };
        self.line(format_args!("image {number}: {total} bytes, taken {taken}{stood}"))?;
        self.line(format_args!("format version {version}, machine {arch}, pages of {page_size} bytes\n"))?;
        self.line(format_args!("{:>6} TAG  {:>9} {:>9}  FIELDS", "RECORD", "JSON", "BLOB"))
    }

    fn record(&mut self, record: Record) -> Result<()> {
        let body: Value = record.body()?;
        let (tag, number) = (record.tag.to_string(), self.records);
        let (json, blob) = (record.json.len(), record.blob.len());
        let fields = telling(&body);
        self.line(format_args!("{number:>6} {tag:<4} {json:>9} {blob:>9}  {fields}"))?;
        if record.pages {
            let address = |name| body.get(name).map(|value| shown(name, value)).unwrap_or_default();
            let (start, end) = (address("start"), address("end"));
            self.memory.push(Memory { record: number, tag, start, end, runs: 0, pages: 0, next: None });
        }
        self.open = record.pages;
        self.records += 1;
        self.totals.record(record)
    }

    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        if let Some(list) = self.memory.last_mut().filter(|_| self.open) {
            list.runs += u64::from(list.next != Some(address));
            list.pages += bytes.len() as u64 / PAGE_SIZE;
            list.next = address.checked_add(bytes.len() as u64);
        }
        self.totals.pages(address, bytes)
    }

    fn end_of_pages(&mut self) -> Result<()> {
        self.open = false;
        Ok(())
    }

    fn end(&mut self, total: u64) -> Result<()> {
        self.memory()?;
        self.line(format_args!(""))?;
        self.totals.end(total)
    }
}

/// The fields of `body` on one line, the most informative first.
fn telling(body: &Value) -> String {
    let Value::Object(fields) = body else { return shortened(body.to_string()) };
    let first = TELLING.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !TELLING.contains(&name.as_str()));
    let all: Vec<_> =
        first.chain(rest).map(|(name, value)| format!("{}={}", printable(name), shown(name, value))).collect();
    shortened(all.join(" "))
}

/// One value, in short form. The items of an array or object are only counted.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.len()),
        Value::Object(fields) => format!("{{{}}}", fields.len()),
        Value::String(text) => printable(text),
        Value::Number(number) if ADDRESSES.contains(&name) => {
            number.as_u64().map_or(number.to_string(), |address| format!("{address:#x}"))
        }
        other => other.to_string(),
    }
}

/// A text of the image for a terminal. Control characters are escaped. It is quoted if it would be
/// misread otherwise.
pub(super) fn printable(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"\\=".contains(c));
    if plain { text.to_string() } else { format!("{text:?}") }
}

fn shortened(text: String) -> String {
    if text.chars().count() <= WIDTH {
        return text;
    }
    let mut short: String = text.chars().take(WIDTH - 3).collect();
    short.push_str("...");
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_telling_fields_come_first() {
        let body = json!({"zeta": 1, "list": [1, 2], "start": 4096, "name": "a b", "pid": 7, "sub": {}, "on": true});
        assert_eq!(telling(&body), r#"pid=7 name="a b" start=0x1000 list=[2] on=true sub={0} zeta=1"#);
        assert_eq!(telling(&json!(5)), "5");
    }

    #[test]
    fn no_line_is_long_and_no_control_character_passes() {
        assert_eq!(telling(&json!({"path": "x".repeat(500)})).chars().count(), WIDTH);
        let told = telling(&json!({"comm": "a\u{1b}[31m\u{9b}\n", "\u{7}": "é"}));
        assert_eq!(told, r#"comm="a\u{1b}[31m\u{9b}\n" "\u{7}"="é""#);
    }
}

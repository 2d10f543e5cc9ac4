//! `ckptfs diff`: the differences of two images, of one tree at two instants or of any two.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use ckptfs_dumper::image::{Header, Record, Sink};
use ckptfs_dumper::{Doing, Error, Pid, Result};
use serde::Serialize;
use serde_json::Value;

use crate::cli::inspect::contents::{Contents, Mapping, Pages};
use crate::cli::inspect::feed::feed;
use crate::escape::escaped;

/// The differences. Everything is empty for two images of an unchanged tree.
#[derive(Debug, Default, Serialize)]
pub(super) struct Differences {
    /// Processes that only the first image has.
    only_a: Vec<Pid>,
    /// Processes that only the second image has.
    only_b: Vec<Pid>,
    memory: Vec<MemoryDiffers>,
    descriptors: Vec<FieldDiffers>,
    attributes: Vec<FieldDiffers>,
}

/// Pages of one mapping, or of one object.
#[derive(Debug, Serialize)]
struct MemoryDiffers {
    /// 0 for an object that processes share.
    pid: Pid,
    start: u64,
    end: u64,
    what: String,
    /// Pages that both have, with different contents.
    changed: u64,
    only_a: u64,
    only_b: u64,
    /// Which image has the mapping: "a", "b", or both.
    #[serde(rename = "in")]
    within: &'static str,
}

/// One field of a record.
#[derive(Debug, Serialize)]
struct FieldDiffers {
    /// The record's tag, or the descriptor.
    of: String,
    pid: i64,
    field: String,
    a: Value,
    b: Value,
}

/// Writes the differences, as text or as JSON. Returns whether there are none.
pub(super) fn diff(
    a: (&mut dyn Read, &str),
    b: (&mut dyn Read, &str),
    json: bool,
    out: &mut dyn Write,
) -> Result<bool> {
    let (a, b) = (read(a.0, a.1)?, read(b.0, b.1)?);
    let found = Differences::between(&a, &b);
    if json {
        let text = serde_json::to_string(&found).map_err(|error| Error::os(error, libc::EIO))?;
        writeln!(out, "{text}").doing(|| "writing the differences")?;
    } else {
        found.write(out).doing(|| "writing the differences")?;
    }
    Ok(found.is_empty())
}

/// The contents of the only image of an input.
fn read(input: &mut dyn Read, name: &str) -> Result<Contents> {
    let mut side = Side(Contents::new(true));
    feed(input, name, None, &mut side)?;
    Ok(side.0)
}

struct Side(Contents);

impl Sink for Side {
    fn header(&mut self, header: &Header) -> Result<()> {
        match self.0.header.replace(*header) {
            None => Ok(()),
            Some(_) => Err(Error::unsupported("several images in one file cannot be compared")),
        }
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.0.record(&record)
    }

    fn pages(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.0.pages(address, bytes);
        Ok(())
    }

    fn end_of_pages(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// The mappings of an image by process and start.
fn by_place(of: &Contents) -> BTreeMap<(Pid, u64), &Mapping> {
    of.mappings.iter().map(|mapping| ((mapping.shown.tid, mapping.shown.start), mapping)).collect()
}

impl Differences {
    fn between(a: &Contents, b: &Contents) -> Self {
        let mut found = Self::default();
        found.processes(a, b);
        found.memory(a, b);
        found.descriptors(a, b);
        found.attributes(a, b);
        found
    }

    fn is_empty(&self) -> bool {
        let processes = self.only_a.is_empty() && self.only_b.is_empty();
        processes && self.memory.is_empty() && self.descriptors.is_empty() && self.attributes.is_empty()
    }

    fn processes(&mut self, a: &Contents, b: &Contents) {
        let pids = |of: &Contents| -> BTreeSet<Pid> { of.processes.iter().map(|process| process.pid).collect() };
        let (in_a, in_b) = (pids(a), pids(b));
        self.only_a = in_a.difference(&in_b).copied().collect();
        self.only_b = in_b.difference(&in_a).copied().collect();
        for pid in in_a.intersection(&in_b) {
            let body = |of: &'_ Contents| of.process(*pid).map(|process| process.body.clone());
            fields("", body(a).as_ref(), body(b).as_ref(), &mut |field, a, b| {
                self.attributes.push(FieldDiffers { of: "TREE".into(), pid: (*pid).into(), field, a, b });
            });
        }
    }

    fn memory(&mut self, a: &Contents, b: &Contents) {
        let none = Pages::new();
        let (of_a, of_b) = (by_place(a), by_place(b));
        for key in of_a.keys().chain(of_b.keys()).collect::<BTreeSet<_>>() {
            let ((pid, start), in_a, in_b) = (key, of_a.get(key).copied(), of_b.get(key).copied());
            let Some(one) = in_a.or(in_b) else { continue };
            let within = match (in_a, in_b) {
                (Some(_), None) => "a",
                (None, Some(_)) => "b",
                _ => "both",
            };
            let (end, what) = (one.shown.end, one.shown.name.clone());
            let (pages_a, pages_b) = (in_a.map_or(&none, |it| &it.pages), in_b.map_or(&none, |it| &it.pages));
            self.pages((*pid, *start, end), what, within, pages_a, pages_b);
            if let (Some(in_a), Some(in_b)) = (in_a, in_b) {
                fields("", Some(&in_a.body), Some(&in_b.body), &mut |field, a, b| {
                    if !matches!(field.as_str(), "pages" | "file") {
                        let of = format!("{start:x}-{end:x}");
                        self.attributes.push(FieldDiffers { of, pid: (*pid).into(), field, a, b });
                    }
                });
            }
        }
        for id in a.object_pages.keys().chain(b.object_pages.keys()).collect::<BTreeSet<_>>() {
            let what = a.objects.get(id).or_else(|| b.objects.get(id)).map(|it| it.kind.clone()).unwrap_or_default();
            let pages = |of: &Contents| of.object_pages.get(id).cloned().unwrap_or_default();
            self.pages((0, 0, 0), format!("{what} {id}"), "both", &pages(a), &pages(b));
        }
    }

    fn pages(&mut self, place: (Pid, u64, u64), what: String, within: &'static str, a: &Pages, b: &Pages) {
        let changed = a.iter().filter(|(at, hash)| b.get(at).is_some_and(|other| other != *hash)).count() as u64;
        let only = |one: &Pages, other: &Pages| one.keys().filter(|at| !other.contains_key(at)).count() as u64;
        let (only_a, only_b) = (only(a, b), only(b, a));
        if changed + only_a + only_b > 0 || within != "both" {
            let (pid, start, end) = place;
            self.memory.push(MemoryDiffers { pid, start, end, what, changed, only_a, only_b, within });
        }
    }

    fn descriptors(&mut self, a: &Contents, b: &Contents) {
        let keys = a.descriptors.keys().chain(b.descriptors.keys()).collect::<BTreeSet<_>>();
        for key in keys {
            let of = |it: &Contents| {
                it.descriptors.get(key).map(|(id, cloexec)| {
                    let mut file = it.open_file(*id);
                    if let Some(fields) = file.as_object_mut() {
                        fields.insert("close_on_exec".into(), (*cloexec).into());
                    }
                    file
                })
            };
            let (in_a, in_b) = (of(a), of(b));
            fields("", in_a.as_ref(), in_b.as_ref(), &mut |field, a, b| {
                self.descriptors.push(FieldDiffers { of: format!("fd {}", key.1), pid: key.0.into(), field, a, b });
            });
        }
    }

    fn attributes(&mut self, a: &Contents, b: &Contents) {
        let keys = a.attributes.keys().chain(b.attributes.keys()).collect::<BTreeSet<_>>();
        for key in keys {
            let (of, pid) = (key.0.clone(), key.1);
            let (in_a, in_b) = (a.attributes.get(key), b.attributes.get(key));
            fields("", in_a.map(|it| &it.body), in_b.map(|it| &it.body), &mut |field, a, b| {
                self.attributes.push(FieldDiffers { of: of.clone(), pid, field, a, b });
            });
            if let (Some(in_a), Some(in_b)) = (in_a, in_b)
                && in_a.blob != in_b.blob
            {
                let (a, b) = (in_a.blob.into(), in_b.blob.into());
                self.attributes.push(FieldDiffers { of, pid, field: "blob".into(), a, b });
            }
        }
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for (pids, which) in [(&self.only_a, "first"), (&self.only_b, "second")] {
            for pid in pids {
                writeln!(out, "pid {pid}: only in the {which} image")?;
            }
        }
        let mut sums = [0; 3];
        for it in &self.memory {
            let whose =
                if it.pid == 0 { String::new() } else { format!("pid {} {:x}-{:x} ", it.pid, it.start, it.end) };
            let within = match it.within {
                "a" => ", only in the first image",
                "b" => ", only in the second image",
                _ => "",
            };
            let MemoryDiffers { changed, only_a, only_b, .. } = it;
            let what = shown(&Value::String(it.what.clone()));
            writeln!(out, "{whose}{what}: pages: {changed} changed, {only_a} gone, {only_b} new{within}")?;
            for (sum, count) in sums.iter_mut().zip([changed, only_a, only_b]) {
                *sum += count;
            }
        }
        for it in self.descriptors.iter().chain(&self.attributes) {
            let FieldDiffers { of, pid, field, a, b } = it;
            let (of, field) = (escaped(of), escaped(field));
            writeln!(
                out,
                "pid {pid} {of}{}{field}: {} -> {}",
                if field.is_empty() { "" } else { " " },
                shown(a),
                shown(b)
            )?;
        }
        let [changed, gone, new] = sums;
        let (descriptors, attributes) = (self.descriptors.len(), self.attributes.len());
        writeln!(
            out,
            "total: pages: {changed} changed, {gone} gone, {new} new; {descriptors} fields of descriptors, {attributes} of attributes"
        )
    }
}

/// A value on one line. Control characters are escaped as in JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => escaped(text),
        // JSON leaves some control characters as they are (DEL, C1).
        other => escaped(&other.to_string()),
    }
}

/// Reports every leaf in which two bodies differ, by its path.
fn fields(path: &str, a: Option<&Value>, b: Option<&Value>, tell: &mut impl FnMut(String, Value, Value)) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (a, b) {
        (a, b) if a == b => {}
        (Some(Value::Object(in_a)), Some(Value::Object(in_b))) => {
            for name in in_a.keys().chain(in_b.keys()).collect::<BTreeSet<_>>() {
                fields(&below(name), in_a.get(name), in_b.get(name), tell);
            }
        }
        (Some(Value::Array(in_a)), Some(Value::Array(in_b))) if in_a.len() == in_b.len() => {
            for (n, (a, b)) in in_a.iter().zip(in_b).enumerate() {
                fields(&below(&n.to_string()), Some(a), Some(b), tell);
            }
        }
        (a, b) => tell(path.to_owned(), a.cloned().unwrap_or_default(), b.cloned().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leaves_that_differ_are_told_by_their_path() {
        let (a, b) =
            (json!({"x": [1, 2], "y": {"z": "q"}, "same": 1}), json!({"x": [1, 3], "y": {}, "same": 1, "n": [0]}));
        let mut found = Vec::new();
        fields("", Some(&a), Some(&b), &mut |path, a, b| found.push(format!("{path}: {} {}", shown(&a), shown(&b))));
        assert_eq!(found, ["n: - [0]", "x.1: 2 3", "y.z: q -"]);
        fields("", Some(&a), Some(&a), &mut |path, _, _| found.push(path));
        assert_eq!(found.len(), 3);
    }
}

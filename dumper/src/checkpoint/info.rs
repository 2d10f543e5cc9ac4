//! `info.json`: the records of an image about one process, and those that they refer to.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::error::Result;
use crate::image::record_set::{RecordSet, RecordView};
use crate::kind::record_sort::{Shown, Subject};
use crate::pstree::record::Tree;
use crate::records;
use crate::sys::pid::Pid;

/// Bodies of records, by tag. There may be very many, so each is parsed when it is written.
pub struct Bodies<'a>(BTreeMap<String, Vec<RecordView<'a>>>);

/// The bodies of the `records` that belong to the process `pid` of `tree`. The record of the tree
/// is included whole.
pub fn records<'a>(records: &'a dyn RecordSet, tree: &Tree, pid: Pid) -> Result<Bodies<'a>> {
    let about: Vec<(Subject, RecordView<'_>)> =
        records.records().map(|record| Ok((records::subject(&record)?, record))).collect::<Result<_>>()?;
    let subjects = subjects(&about, tree, pid)?;
    let mut by_tag: BTreeMap<String, Vec<RecordView<'_>>> = BTreeMap::new();
    for (_, record) in about.into_iter().filter(|(subject, _)| subjects.contains(subject)) {
        by_tag.entry(record.tag.to_string()).or_default().push(record);
    }
    Ok(Bodies(by_tag))
}

impl Serialize for Bodies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (tag, records) in &self.0 {
            map.serialize_entry(tag, &OfOneTag(records))?;
        }
        map.end()
    }
}

struct OfOneTag<'a>(&'a [RecordView<'a>]);

impl Serialize for OfOneTag<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for record in self.0 {
            let damaged = |error| S::Error::custom(format_args!("record {}: {error}", record.tag));
            list.serialize_element(&serde_json::from_slice::<Value>(record.json).map_err(damaged)?)?;
        }
        list.end()
    }
}

/// The process, its threads, the records that belong to no process, and everything that these refer
/// to.
fn subjects(about: &[(Subject, RecordView<'_>)], tree: &Tree, pid: Pid) -> Result<BTreeSet<Subject>> {
    let mut by_subject: BTreeMap<Subject, Vec<&RecordView<'_>>> = BTreeMap::new();
    for (subject, record) in about {
        by_subject.entry(*subject).or_default().push(record);
    }
    let process = tree.processes.iter().find(|process| process.pid == pid);
    let threads = process.into_iter().flat_map(|process| &process.threads).chain([&pid]);
    let mut found: BTreeSet<Subject> = threads.copied().map(Subject::Task).collect();
    let mut unread: Vec<Subject> = found.iter().copied().collect();
    while let Some(subject) = unread.pop() {
        for record in by_subject.get(&subject).into_iter().flatten() {
            let refers = records::show(record)?.as_ref().map(Shown::refers).unwrap_or_default();
            unread.extend(refers.into_iter().filter(|subject| found.insert(*subject)));
        }
    }
    found.insert(Subject::Image);
    Ok(found)
}

//! `info.json`: the records of an image about one process, and those that they refer to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::image::record_set::{RecordSet, RecordView};
use crate::kind::record_sort::{Shown, Subject};
use crate::pstree::record::Tree;
use crate::records;
use crate::sys::pid::Pid;

/// The bodies of the `records` that belong to the process `pid` of `tree`, by tag. The record of
/// the tree is included whole.
pub fn records(records: &dyn RecordSet, tree: &Tree, pid: Pid) -> Result<Map<String, Value>> {
    let about: Vec<(Subject, RecordView<'_>)> =
        records.records().map(|record| Ok((records::subject(&record)?, record))).collect::<Result<_>>()?;
    let subjects = subjects(&about, tree, pid)?;
    let mut by_tag = Map::new();
    for (_, record) in about.iter().filter(|(subject, _)| subjects.contains(subject)) {
        let tag = record.tag.to_string();
        let body: Value =
            serde_json::from_slice(record.json).map_err(|error| Error::damaged(format!("record {tag}: {error}")))?;
        if let Value::Array(list) = by_tag.entry(tag).or_insert_with(|| json!([])) {
            list.push(body);
        }
    }
    Ok(by_tag)
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

//! `info.json`: of an image's records those that speak of one process, and of what it refers to.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::file::fd_table;
use crate::image::frame::Tag;
use crate::image::record_set::RecordSet;
use crate::kind::{object, open_file};
use crate::memory::vma;
use crate::pstree::record;
use crate::sys::pid::Pid;
use crate::task::address_space;

/// Those of `records` that belong to process `pid`, by tag. The tree itself is told whole.
pub fn records(records: &dyn RecordSet, pid: Pid) -> Result<Map<String, Value>> {
    let mut bodies = Vec::new();
    for record in records.records() {
        let body: Value = serde_json::from_slice(record.json)
            .map_err(|error| Error::damaged(format!("record {}: {error}", record.tag)))?;
        bodies.push((record.tag, body));
    }
    let tids = threads(&bodies, pid);
    let is_its = |body: &Value| body["tid"].as_i64().is_none_or(|tid| tids.contains(&tid));
    let files: BTreeSet<u64> =
        bodies.iter().filter(|(_, body)| is_its(body)).flat_map(|(tag, body)| files_of(*tag, body)).collect();
    let is_used = |body: &Value, ids: &BTreeSet<u64>| body["id"].as_u64().is_some_and(|id| ids.contains(&id));
    let its_files = bodies.iter().filter(|(tag, body)| *tag == open_file::TAG && is_used(body, &files));
    let objects: BTreeSet<u64> = its_files.filter_map(|(_, body)| body["object"].as_u64()).collect();
    let mut told = Map::new();
    for (tag, body) in bodies {
        let wanted = match tag {
            record::TAG => true,
            open_file::TAG => is_used(&body, &files),
            object::TAG => is_used(&body, &objects),
            _ => is_its(&body),
        };
        if !wanted {
            continue;
        }
        if let Value::Array(list) = told.entry(tag.to_string()).or_insert_with(|| json!([])) {
            list.push(body);
        }
    }
    Ok(told)
}

/// The process and its threads.
fn threads(bodies: &[(Tag, Value)], pid: Pid) -> BTreeSet<i64> {
    let trees = bodies.iter().filter(|(tag, _)| *tag == record::TAG);
    let processes = trees.flat_map(|(_, body)| body["processes"].as_array().into_iter().flatten());
    let threads = processes.filter(|process| process["pid"] == pid).flat_map(|process| process["threads"].as_array());
    threads.flatten().filter_map(Value::as_i64).chain([i64::from(pid)]).collect()
}

/// The open files that a record refers to.
fn files_of(tag: Tag, body: &Value) -> Vec<u64> {
    let of_table =
        |table: &Value| table["fds"].as_array().into_iter().flatten().filter_map(|fd| fd[1].as_u64()).collect();
    match tag {
        fd_table::TABLE => of_table(body),
        vma::TAG => body["file"].as_u64().into_iter().collect(),
        address_space::TAG => body["exe"].as_u64().into_iter().collect(),
        // A working directory that was removed is an open file.
        _ => body["cwd"].as_u64().into_iter().collect(),
    }
}

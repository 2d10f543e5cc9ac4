//! The contents of an image by process: for the tables that people read, and for comparing two
//! images.
//!
//! [`show`] returns what a record is about. Its body stays as it is in the image, so fields and
//! sorts of records that a later version adds are compared too.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record};
use ckptfs_dumper::inspect::{Shown, ShownFile, ShownMapping, ShownProcess, ShownTask, show};
use ckptfs_dumper::{Pid, Result};
use serde_json::Value;

/// How many bytes of a command line are kept.
const COMMAND_MOST: u64 = 4096;

/// One image.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub header: Option<Header>,
    /// Whether its first record says that it is signed.
    pub is_signed: bool,
    pub kernel: String,
    /// The process tree.
    pub processes: Vec<ShownProcess>,
    /// Records of tasks by tag and task, and records that belong to none by tag and number in the
    /// image.
    pub attributes: BTreeMap<(String, i64), Attribute>,
    pub files: BTreeMap<u32, OpenFile>,
    pub objects: BTreeMap<u32, Object>,
    /// Descriptors by task and number: id of the open file, close-on-exec.
    pub descriptors: BTreeMap<(Pid, i32), (u32, bool)>,
    pub mappings: Vec<Mapping>,
    /// The pages of objects, by id.
    pub object_pages: BTreeMap<u32, Pages>,
    /// The names of tasks.
    names: BTreeMap<Pid, Vec<u8>>,
    /// Where command lines are in memory, and which of their bytes were read.
    commands: BTreeMap<Pid, CommandLine>,
    /// How many records so far belonged to no task.
    without_task: i64,
    has_records: bool,
    hashes: bool,
    filling: Filling,
}

/// Hashes of pages by address. 0 if they are not compared.
pub(super) type Pages = BTreeMap<u64, u64>;

/// A record's body, and a hash of its blob.
#[derive(Debug)]
pub(super) struct Attribute {
    pub body: Value,
    pub blob: u64,
    /// Number, key and permissions of a System V object.
    pub ipc: Option<(i32, i32, u32)>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub shown: ShownFile,
    body: Value,
}

/// An object that open files share.
#[derive(Debug)]
pub(super) struct Object {
    pub kind: String,
    label: String,
    body: Value,
}

/// One mapping.
#[derive(Debug)]
pub(super) struct Mapping {
    pub shown: ShownMapping,
    pub body: Value,
    pub pages: Pages,
}

#[derive(Debug)]
struct CommandLine {
    start: u64,
    bytes: Vec<Option<u8>>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Filling {
    #[default]
    Nothing,
    Mapping,
    Object(u32),
}

impl Contents {
    /// Empty contents. `hashes` is set if the contents of pages are to be compared.
    pub(super) fn new(hashes: bool) -> Self {
        Self { hashes, ..Self::default() }
    }

    /// Takes the next record.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        self.filling = Filling::Nothing;
        let is_first = !std::mem::replace(&mut self.has_records, true);
        if record.is_signature() {
            // Not among the attributes: with a signature or without, the contents are the same. One
            // that comes later signs nothing.
            self.is_signed |= is_first;
            return Ok(());
        }
        let body: Value = record.body()?;
        match show(&record.into())? {
            Some(Shown::Tree(kernel, processes)) => (self.kernel, self.processes) = (kernel, processes),
            Some(Shown::Object { id, kind, label }) => {
                self.filling = Filling::Object(id);
                self.objects.insert(id, Object { kind, label, body });
            }
            Some(Shown::OpenFile(shown)) => {
                self.files.insert(shown.id, OpenFile { shown, body });
            }
            Some(Shown::FdTable(tid, fds)) => {
                self.descriptors.extend(fds.into_iter().map(|(number, id, cloexec)| ((tid, number), (id, cloexec))));
            }
            Some(Shown::Mapping(shown)) => {
                self.filling = Filling::Mapping;
                self.mappings.push(Mapping { shown, body, pages: Pages::new() });
            }
            Some(Shown::Task(ShownTask { tid, name, arguments, .. })) => {
                self.names.extend(name.map(|name| (tid, name)));
                if let Some(Range { start, end }) = arguments {
                    let len = end.saturating_sub(start).min(COMMAND_MOST) as usize;
                    self.commands.insert(tid, CommandLine { start, bytes: vec![None; len] });
                }
                self.attribute(record, body, Some(tid), None);
            }
            Some(Shown::FdState(tid, _)) => self.attribute(record, body, Some(tid), None),
            Some(Shown::Relation(..)) => self.attribute(record, body, None, None),
            Some(Shown::SysvIpc { id, key, mode }) => self.attribute(record, body, None, Some((id, key, mode))),
            // A later version may have written it.
            None => {
                let tid = body.get("tid").and_then(Value::as_i64).and_then(|tid| Pid::try_from(tid).ok());
                self.attribute(record, body, tid, None);
            }
        }
        Ok(())
    }

    fn attribute(&mut self, record: &Record, body: Value, tid: Option<Pid>, ipc: Option<(i32, i32, u32)>) {
        let key = tid.map_or_else(
            || {
                // Records without a task are distinguished by their place in the image.
                self.without_task += 1;
                1 - self.without_task
            },
            i64::from,
        );
        let mut hasher = DefaultHasher::new();
        record.blob.hash(&mut hasher);
        self.attributes.insert((record.tag.to_string(), key), Attribute { body, blob: hasher.finish(), ipc });
    }

    /// Takes pages of the last mapping or object.
    pub(super) fn pages(&mut self, address: u64, bytes: &[u8]) {
        let pages = match (self.filling, self.mappings.last_mut()) {
            (Filling::Object(id), _) => self.object_pages.entry(id).or_default(),
            (Filling::Mapping, Some(mapping)) => {
                if let Some(command) = self.commands.get_mut(&mapping.shown.tid) {
                    command.take(address, bytes);
                }
                &mut mapping.pages
            }
            _ => return,
        };
        for (n, page) in bytes.chunks(PAGE_SIZE as usize).enumerate() {
            let hash = if self.hashes {
                let mut hasher = DefaultHasher::new();
                page.hash(&mut hasher);
                hasher.finish()
            } else {
                0
            };
            pages.insert(address + n as u64 * PAGE_SIZE, hash);
        }
    }

    /// A process of the tree.
    pub(super) fn process(&self, pid: Pid) -> Option<&ShownProcess> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// The name (comm) of a task, also of a process that has ended. Empty if the image does not
    /// have it.
    pub(super) fn name(&self, tid: Pid) -> String {
        let ended = || self.process(tid).and_then(|process| process.ended.as_ref()).map(|(_, name)| name);
        let name = self.names.get(&tid).or_else(ended);
        name.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    /// Its command line, with its arguments separated by spaces. Its name in brackets if the image
    /// does not have the arguments.
    pub(super) fn command(&self, pid: Pid) -> String {
        let mut at = pid;
        // The first page of a child's stack may be in the image with the process that forked it, at
        // the same address.
        let place = self.commands.get(&pid).map(|command| (command.start, command.bytes.len()));
        for _ in 0..self.processes.len() {
            if let Some(command) = self.commands.get(&at).filter(|it| Some((it.start, it.bytes.len())) == place)
                && let Some(bytes) = command.bytes.iter().copied().collect::<Option<Vec<u8>>>()
                && !bytes.is_empty()
            {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return text.trim_end_matches('\0').replace('\0', " ");
            }
            match self.process(at) {
                Some(process) if process.made_by != 0 => at = process.made_by,
                _ => break,
            }
        }
        format!("[{}]", self.name(pid))
    }

    /// The body of an open file, with that of the object beneath it. The ids are left out, because
    /// only this image has them.
    pub(super) fn open_file(&self, id: u32) -> Value {
        let without_id = |body: &Value| {
            let mut body = body.clone();
            body.as_object_mut().map(|fields| fields.remove("id"));
            body
        };
        let Some(file) = self.files.get(&id) else { return Value::Null };
        let mut body = without_id(&file.body);
        if let (Some(fields), Some(object)) = (body.as_object_mut(), self.object(file)) {
            fields.insert("object".into(), without_id(&object.body));
        }
        body
    }

    fn object(&self, file: &OpenFile) -> Option<&Object> {
        file.shown.object.and_then(|id| self.objects.get(&id))
    }

    /// What a descriptor refers to, in a word.
    pub(super) fn what(&self, id: u32) -> String {
        let Some(file) = self.files.get(&id) else { return String::new() };
        let Some(object) = self.object(file) else { return file.shown.label.clone() };
        match &object.body["external"] {
            Value::Null => object.label.clone(),
            outside => {
                let (pid, name) = (&outside["pid"], outside["name"].as_str().unwrap_or("?"));
                format!("{}, held outside of the tree by pid {pid} ({name})", object.label)
            }
        }
    }
}

impl CommandLine {
    fn take(&mut self, address: u64, bytes: &[u8]) {
        for (n, known) in self.bytes.iter_mut().enumerate() {
            if let Some(byte) = (self.start + n as u64).checked_sub(address).and_then(|at| bytes.get(at as usize)) {
                *known = Some(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ckptfs_dumper::image::Tag;

    use super::*;

    #[test]
    fn only_the_first_record_is_a_signature() {
        let record = |tag: &[u8; 4]| Record::new(Tag(*tag), &serde_json::json!({})).unwrap().optional();
        for (tags, is_signed) in [([b"SIGN", b"LATE"], true), ([b"LATE", b"SIGN"], false)] {
            let mut contents = Contents::new(false);
            tags.into_iter().for_each(|tag| contents.record(&record(tag)).unwrap());
            assert_eq!(contents.is_signed, is_signed, "{tags:?}");
        }
    }
}

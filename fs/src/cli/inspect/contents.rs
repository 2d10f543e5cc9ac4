//! What an image holds, gathered by process: for the tables of a person, and to compare two images.
//!
//! Records are looked at by the names of their fields, which are the format: what a later version adds is passed on as it stands.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ckptfs_dumper::image::{Header, PAGE_SIZE, Record};
use ckptfs_dumper::{Pid, Result};
use serde_json::Value;

/// Bytes of a command line that are kept.
const COMMAND_MOST: u64 = 4096;

/// One image.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub header: Option<Header>,
    pub kernel: String,
    /// As the TREE record tells them.
    pub processes: Vec<Value>,
    /// Records of tasks, by tag and task, and all that belong to none, by tag and number in the image.
    pub attributes: BTreeMap<(String, i64), Attribute>,
    pub files: BTreeMap<u64, Value>,
    pub objects: BTreeMap<u64, Value>,
    /// Descriptors by task and number: id of the open file, close-on-exec.
    pub descriptors: BTreeMap<(Pid, i64), (u64, bool)>,
    pub mappings: Vec<Mapping>,
    /// What pages of objects hold, by id.
    pub object_pages: BTreeMap<u64, Pages>,
    /// Where command lines stand, and what is known of them.
    commands: BTreeMap<Pid, CommandLine>,
    /// Records that belong to no task, so far.
    nobodys: i64,
    hashes: bool,
    filling: Filling,
}

/// Hashes of pages by address; 0 if nobody wants them.
pub(super) type Pages = BTreeMap<u64, u64>;

/// A record's body, and a hash of what stands behind it.
#[derive(Debug)]
pub(super) struct Attribute {
    pub body: Value,
    pub blob: u64,
}

/// One mapping.
#[derive(Debug)]
pub(super) struct Mapping {
    pub pid: Pid,
    pub start: u64,
    pub end: u64,
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
    Object(u64),
}

impl Contents {
    /// Empty. `hashes`: whether the contents of pages are to be compared.
    pub(super) fn new(hashes: bool) -> Self {
        Self { hashes, ..Self::default() }
    }

    /// A record that comes.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        self.filling = Filling::Nothing;
        let body: Value = record.body()?;
        let tag = record.tag.to_string();
        match tag.as_str() {
            "TREE" => {
                self.kernel = text(&body, "kernel");
                self.processes = body.get("processes").and_then(Value::as_array).cloned().unwrap_or_default();
            }
            "OBJT" => {
                let id = number(&body, "id");
                self.filling = Filling::Object(id);
                self.objects.insert(id, body);
            }
            "FILE" => {
                self.files.insert(number(&body, "id"), body);
            }
            "FDTB" => {
                let tid = number(&body, "tid") as Pid;
                for fd in body.get("fds").and_then(Value::as_array).into_iter().flatten() {
                    let at = |n: usize| fd.get(n).and_then(Value::as_u64).unwrap_or_default();
                    let cloexec = fd.get(2).and_then(Value::as_bool).unwrap_or_default();
                    self.descriptors.insert((tid, at(0).cast_signed()), (at(1), cloexec));
                }
            }
            "AREA" => {
                self.filling = Filling::Mapping;
                let (start, end) = (number(&body, "start"), number(&body, "end"));
                let pid = number(&body, "tid") as Pid;
                self.mappings.push(Mapping { pid, start, end, body, pages: Pages::new() });
            }
            _ => {
                let task = body.get("tid").and_then(Value::as_i64);
                if tag == "MMAP" {
                    let (start, end) = (number(&body, "arg_start"), number(&body, "arg_end"));
                    let len = end.saturating_sub(start).min(COMMAND_MOST) as usize;
                    self.commands.insert(task.unwrap_or(0) as Pid, CommandLine { start, bytes: vec![None; len] });
                }
                // Whatever belongs to no task is told apart by its place.
                let key = (
                    tag,
                    task.unwrap_or_else(|| {
                        self.nobodys += 1;
                        1 - self.nobodys
                    }),
                );
                let mut hasher = DefaultHasher::new();
                record.blob.hash(&mut hasher);
                self.attributes.insert(key, Attribute { body, blob: hasher.finish() });
            }
        }
        Ok(())
    }

    /// Pages of the mapping or object that came last.
    pub(super) fn pages(&mut self, address: u64, bytes: &[u8]) {
        let pages = match (self.filling, self.mappings.last_mut()) {
            (Filling::Object(id), _) => self.object_pages.entry(id).or_default(),
            (Filling::Mapping, Some(mapping)) => {
                if let Some(command) = self.commands.get_mut(&mapping.pid) {
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
    pub(super) fn process(&self, pid: Pid) -> Option<&Value> {
        self.processes.iter().find(|process| number(process, "pid") == pid as u64)
    }

    /// Its name, as IDEN has it, or what is left of a process that has ended.
    pub(super) fn name(&self, pid: Pid) -> String {
        let identity = self.attributes.get(&("IDEN".to_owned(), pid.into())).map(|it| &it.body);
        let ended = || self.process(pid).and_then(|process| process.get("ended"));
        let bytes = identity.or_else(ended).and_then(|it| it.get("comm")).and_then(Value::as_array);
        let bytes: Vec<u8> = bytes.into_iter().flatten().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its command line, arguments separated by spaces; its name in brackets if the image does not tell it.
    pub(super) fn command(&self, pid: Pid) -> String {
        let mut at = pid;
        // A child's first page of the stack may stand with its maker, at the same address.
        let place = self.commands.get(&pid).map(|command| (command.start, command.bytes.len()));
        for _ in 0..self.processes.len() {
            if let Some(command) = self.commands.get(&at).filter(|it| Some((it.start, it.bytes.len())) == place)
                && let Some(bytes) = command.bytes.iter().copied().collect::<Option<Vec<u8>>>()
                && !bytes.is_empty()
            {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return text.trim_end_matches('\0').replace('\0', " ");
            }
            let made_by = self.process(at).and_then(|process| process.get("made")).map(|made| number(made, "by"));
            match made_by {
                Some(by) if by != 0 => at = by as Pid,
                _ => break,
            }
        }
        format!("[{}]", self.name(pid))
    }

    /// A descriptor's open file with what it leads to: everything but the ids, which are the image's own.
    pub(super) fn open_file(&self, id: u64) -> Value {
        let mut file = self.files.get(&id).cloned().unwrap_or_default();
        let object = file.get("object").and_then(Value::as_u64).and_then(|object| self.objects.get(&object)).cloned();
        if let Some(fields) = file.as_object_mut() {
            fields.remove("id");
            if let Some(mut object) = object {
                if let Some(inner) = object.as_object_mut() {
                    inner.remove("id");
                }
                fields.insert("object".into(), object);
            }
        }
        file
    }

    /// What a descriptor or a mapping refers to, in a word.
    pub(super) fn what(&self, id: u64) -> String {
        let file = self.open_file(id);
        let told = |body: &Value| {
            let name = ["name", "shown"].iter().map(|field| text(body, field)).find(|name| !name.is_empty());
            name.unwrap_or_else(|| text(body, "kind"))
        };
        file.get("object").map_or_else(|| told(&file), told)
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

/// A number of a record, 0 if it is missing.
pub(super) fn number(body: &Value, name: &str) -> u64 {
    body.get(name).and_then(|value| value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned))).unwrap_or(0)
}

/// A text of a record, empty if it is missing.
pub(super) fn text(body: &Value, name: &str) -> String {
    body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

//! A sort of record: its tag, what its records are about, and what they show to a reader that
//! restores nothing.
//!
//! The row of a sort is in the file that owns the record. The table of all rows is
//! `records/mod.rs`. A restore looks up the [`Role`]. `info.json`, core files and `ckptfs inspect`
//! look up the [`Subject`] and what is [`Shown`]. So only one file knows a tag and the shape of its
//! body.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use crate::error::Result;
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::sys::pid::Pid;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct RecordSort {
    /// The tag of its records.
    pub tag: Tag,
    /// What a restore does with them.
    pub role: Role,
    /// Reads one.
    pub show: fn(&RecordView<'_>) -> Result<Shown>,
}

/// What the records of a sort describe. A restore handles all sorts of one role alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The process tree: the first record of an image, which has one.
    Tree,
    /// One attribute of a task. A task has at most one record of the sort.
    Task,
    /// A System V semaphore set or message queue.
    SysvIpc,
    /// An object that open files share. Its pages may follow.
    Object,
    /// An open file.
    OpenFile,
    /// What an open file has to do with others. It follows all of them.
    Relation,
    /// State of a descriptor beyond its open file. It follows the descriptor table of its task.
    FdState,
    /// A mapping of a process. Its pages follow.
    Mapping,
}

/// What one record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The image as a whole, or an object that belongs to no process.
    Image,
    /// A process or a thread.
    Task(Pid),
    /// An open file, by its id.
    OpenFile(u32),
    /// An object that open files share, by its id.
    Object(u32),
}

impl Subject {
    /// The subject of a record with this role. `None` means that its sort is unknown.
    ///
    /// # Errors
    /// Damaged: the body does not name the subject.
    pub fn of(role: Option<Role>, record: &RecordView<'_>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Task {
            tid: Pid,
        }
        #[derive(Deserialize)]
        struct Numbered {
            id: u32,
        }
        #[derive(Deserialize)]
        struct Unknown {
            tid: Option<Pid>,
        }
        Ok(match role {
            Some(Role::Tree | Role::SysvIpc) => Self::Image,
            Some(Role::Task | Role::FdState | Role::Mapping) => Self::Task(record.body::<Task>()?.tid),
            Some(Role::Object) => Self::Object(record.body::<Numbered>()?.id),
            Some(Role::OpenFile | Role::Relation) => Self::OpenFile(record.body::<Numbered>()?.id),
            None => record.body::<Unknown>()?.tid.map_or(Self::Image, Self::Task),
        })
    }
}

/// What one record shows.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The process tree: the kernel that wrote it (uname -r), and its processes.
    Tree(String, Vec<ShownProcess>),
    /// One attribute of a task.
    Task(ShownTask),
    /// A System V semaphore set or message queue.
    SysvIpc {
        /// Its number.
        id: i32,
        /// Its key.
        key: i32,
        /// Its permissions.
        mode: u32,
    },
    /// An object that open files share.
    Object {
        /// Its id in the image.
        id: u32,
        /// The name of its kind.
        kind: String,
        /// A name for a person.
        label: String,
    },
    /// An open file.
    OpenFile(ShownFile),
    /// What an open file has to do with others, by their ids.
    Relation(u32, Vec<u32>),
    /// The descriptor table of a task: number, id of the open file, close-on-exec.
    FdTable(Pid, Vec<(i32, u32, bool)>),
    /// State of a descriptor of a task.
    FdState(Pid, i32),
    /// A mapping.
    Mapping(ShownMapping),
}

/// One process of the tree.
#[derive(Clone, Debug)]
pub struct ShownProcess {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id.
    pub ppid: Pid,
    /// Its process group.
    pub pgid: Pid,
    /// Its session.
    pub sid: Pid,
    /// How many threads it has. 0 if it has ended, or is a placeholder while others are made.
    pub threads: usize,
    /// The process that makes it. 0 means the restorer.
    pub made_by: Pid,
    /// The signal that stopped it.
    pub stopped_by: Option<i32>,
    /// Its status as wait(2) gives it, and its name, if it has ended.
    pub ended: Option<(i32, Vec<u8>)>,
    /// The whole body, as it is in the image.
    pub body: Value,
}

/// One attribute of a task.
#[derive(Clone, Debug, Default)]
pub struct ShownTask {
    /// The task.
    pub tid: Pid,
    /// The open files that it refers to, by id.
    pub files: Vec<u32>,
    /// The task's name (comm), if this record has it.
    pub name: Option<Vec<u8>>,
    /// Where the command line is in memory, if this record has it.
    pub arguments: Option<Range<u64>>,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct ShownFile {
    /// Its id in the image.
    pub id: u32,
    /// The name of its kind.
    pub kind: String,
    /// The object beneath it, by id.
    pub object: Option<u32>,
    /// O_* of the description.
    pub flags: i32,
    /// Its offset, as it is in the image.
    pub position: Option<Value>,
    /// A name for a person.
    pub label: String,
}

/// A mapping.
#[derive(Clone, Debug)]
pub struct ShownMapping {
    /// The process.
    pub tid: Pid,
    /// First address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// PROT_* bits.
    pub prot: i32,
    /// The name of its type.
    pub kind: String,
    /// MAP_SHARED.
    pub is_shared: bool,
    /// The open file that is mapped, by id.
    pub file: Option<u32>,
    /// As /proc/PID/maps names it.
    pub name: String,
}

impl Shown {
    /// What the record refers to besides its subject.
    pub fn refers(&self) -> Vec<Subject> {
        match self {
            Self::Task(ShownTask { files, .. }) => files.iter().copied().map(Subject::OpenFile).collect(),
            Self::OpenFile(ShownFile { object, .. }) => object.iter().copied().map(Subject::Object).collect(),
            Self::Relation(_, others) => others.iter().copied().map(Subject::OpenFile).collect(),
            Self::FdTable(_, fds) => fds.iter().map(|(_, id, _)| Subject::OpenFile(*id)).collect(),
            Self::Mapping(ShownMapping { file, .. }) => file.iter().copied().map(Subject::OpenFile).collect(),
            Self::Tree(..) | Self::SysvIpc { .. } | Self::Object { .. } | Self::FdState(..) => Vec::new(),
        }
    }
}

/// A name for a person in the body of an open file or an object: its name if it has one, else its
/// kind.
pub fn label(body: &Value, kind: &str) -> String {
    let text = |field: &str| body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("name").or_else(|| text("shown")).unwrap_or(kind).to_owned()
}

/// The row of a sort that shows only its task.
pub const fn of_task(tag: Tag) -> RecordSort {
    RecordSort { tag, role: Role::Task, show: show_task }
}

fn show_task(record: &RecordView<'_>) -> Result<Shown> {
    let Subject::Task(tid) = Subject::of(Some(Role::Task), record)? else {
        return Ok(Shown::Task(ShownTask::default()));
    };
    Ok(Shown::Task(ShownTask { tid, ..ShownTask::default() }))
}

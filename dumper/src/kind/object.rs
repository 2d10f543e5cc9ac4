//! What several descriptions can share beneath them: a pipe's buffer, the pages of a file without a name. Each is in the image
//! once, before the descriptions that refer to it by its id.
//!
//! At the restore an object is one descriptor held by the restorer, its anchor, from which every description (and every mapping) is
//! opened anew through /proc/self/fd.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Result};
use crate::image::frame::{Record, Tag};
use crate::image::page_runs::PageRuns;
use crate::image::record_set::RecordView;
use crate::kind::external::External;
use crate::kind::observed::{NOT_KEPT, ObservedFile};
use crate::kind::record_sort::{self, RecordSort, Role, Shown};
use crate::options::ChangedFiles;
use crate::sys::pid::Pid;
use crate::sys::{fd, sysvipc};

/// The tag of an object's record.
pub const TAG: Tag = Tag(*b"OBJT");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TAG, role: Role::Object, show };

/// What looking at an object gives.
pub struct Dumped<T> {
    /// The record's body.
    pub body: T,
    /// Small contents.
    pub blob: Vec<u8>,
    /// Contents in bulk.
    pub contents: Option<ObjectContents>,
}

/// Contents in bulk, as they were at the instant.
#[derive(Debug)]
pub struct ObjectContents {
    /// Which pages there are, by offset in the object.
    pub runs: PageRuns,
    /// Where they are read from, at the same offsets. Nobody else may write to it.
    pub file: OwnedFd,
}

/// An object that is being restored.
pub struct RestoredObject {
    /// Holds it. Open for reading and writing, where that is one thing.
    pub fd: OwnedFd,
    /// Its other end, where it has two.
    pub other: Option<OwnedFd>,
    /// Its length, bytes: what the last page of the contents holds beyond is not written.
    pub len: u64,
    /// What would outlive a restore that fails.
    pub made: Option<sysvipc::CreatedIpc>,
}

impl RestoredObject {
    /// A description of the object with these flags and this offset.
    pub fn open(&self, flags: i32, position: u64) -> Result<OwnedFd> {
        let mode = flags & libc::O_ACCMODE;
        let file = OpenOptions::new()
            .read(mode != libc::O_WRONLY)
            .write(mode != libc::O_RDONLY)
            .custom_flags(flags & !libc::O_ACCMODE & !NOT_KEPT)
            .open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
            .doing(|| format!("opening an object with flags {flags:#o}"))?;
        let file = OwnedFd::from(file);
        if position != 0 {
            fd::seek(&file, position).on(|| "an object")?;
        }
        Ok(file)
    }

    /// Contents from `offset` on, whole pages.
    pub fn fill(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let len = (self.len.saturating_sub(offset)).min(bytes.len() as u64) as usize;
        let file = std::fs::File::from(self.fd.try_clone().doing(|| "duplicating the descriptor of an object")?);
        file.write_all_at(&bytes[..len], offset).doing(|| format!("writing {len} bytes of an object at {offset}"))
    }
}

/// The record of a description that is nothing but a way to its object.
#[derive(Serialize, Deserialize)]
pub struct Reference {
    /// The object's id.
    pub object: u32,
    /// O_* of the description.
    pub flags: i32,
    /// Its offset.
    pub position: u64,
}

impl Reference {
    /// Of the description that was `seen`.
    pub fn new(object: u32, seen: &ObservedFile<'_>) -> Self {
        Self { object, flags: seen.flags & !NOT_KEPT, position: seen.position }
    }
}

/// A kind of object.
pub trait Object: Sync {
    /// What is stored: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// Its name in the format.
    const KIND: &'static str;
    /// Whether a process outside of the tree may hold it as well, and take part in it.
    const REACHES_OUT: bool = false;

    /// Looks, through any of the descriptions; changes nothing.
    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<Self::Body>>;
    /// Makes it again. Contents in bulk follow.
    fn make(&self, body: &Self::Body, blob: &[u8]) -> Result<RestoredObject>;
    /// What is stored of one that reaches out and that a process outside of the tree holds: it is found again, not made.
    fn external(&self, body: Self::Body, _external: External) -> Self::Body {
        body
    }
    /// What others would notice of it: done when the image has been read to its end and is whole, before its descriptions are opened
    /// (which then have to be [`OpenFile::opens_last`](crate::kind::open_file::OpenFile::opens_last)).
    fn appear(&self, _body: &Self::Body, _blob: &[u8], _anchor: &mut RestoredObject) -> Result<()> {
        Ok(())
    }
    /// The last touch, when its contents are in, all descriptions are open and all mappings made.
    fn finish(&self, _body: &Self::Body, _anchor: &RestoredObject) -> Result<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct TaggedObject<T> {
    id: u32,
    kind: String,
    #[serde(flatten)]
    body: T,
}

/// An [`Object`] in a table.
pub trait DynObject: Sync {
    /// See [`Object::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`Object::REACHES_OUT`].
    fn reaches_out(&self) -> bool;
    /// See [`Object::dump`].
    fn dump(&self, id: u32, seen: &ObservedFile<'_>) -> Result<(Record, Option<ObjectContents>)>;
    /// See [`Object::external`].
    fn external(&self, record: &Record, external: External) -> Result<Record>;
    /// See [`Object::make`].
    fn make(&self, record: &Record) -> Result<RestoredObject>;
    /// See [`Object::appear`].
    fn appear(&self, record: &Record, anchor: &mut RestoredObject) -> Result<()>;
    /// See [`Object::finish`].
    fn finish(&self, record: &Record, anchor: &RestoredObject) -> Result<()>;
}

impl<O: Object> DynObject for O {
    fn kind(&self) -> &'static str {
        O::KIND
    }

    fn reaches_out(&self) -> bool {
        O::REACHES_OUT
    }

    fn dump(&self, id: u32, seen: &ObservedFile<'_>) -> Result<(Record, Option<ObjectContents>)> {
        let Dumped { body, blob, contents } = Object::dump(self, seen)?;
        let record = Record::new(TAG, &TaggedObject { id, kind: O::KIND.to_owned(), body })?.with_blob(blob);
        Ok((if contents.is_some() { record.opens_pages() } else { record }, contents))
    }

    fn external(&self, record: &Record, external: External) -> Result<Record> {
        let TaggedObject { id, kind, body } = record.body::<TaggedObject<O::Body>>()?;
        Record::new(TAG, &TaggedObject { id, kind, body: Object::external(self, body, external) })
    }

    fn make(&self, record: &Record) -> Result<RestoredObject> {
        Object::make(self, &record.body::<TaggedObject<O::Body>>()?.body, &record.blob)
    }

    fn appear(&self, record: &Record, anchor: &mut RestoredObject) -> Result<()> {
        Object::appear(self, &record.body::<TaggedObject<O::Body>>()?.body, &record.blob, anchor)
    }

    fn finish(&self, record: &Record, anchor: &RestoredObject) -> Result<()> {
        Object::finish(self, &record.body::<TaggedObject<O::Body>>()?.body, anchor)
    }
}

fn show(record: &RecordView<'_>) -> Result<Shown> {
    #[derive(Deserialize)]
    struct Head {
        id: u32,
        kind: String,
    }
    let Head { id, kind } = record.body()?;
    let label = record_sort::label(&record.body()?, &kind);
    Ok(Shown::Object { id, kind, label })
}

/// While looking: gives every object one id, however many descriptions lead to it.
pub trait DumpContext {
    /// The id of the object of `kind` behind `seen`; it is looked at the first time.
    fn id_of(&self, kind: &'static dyn DynObject, seen: &ObservedFile<'_>) -> Result<u32>;
    /// Whether this process is of the tree that is looked at.
    fn holds(&self, _pid: Pid) -> bool {
        false
    }
}

/// While restoring: the objects of the image, and what else a kind may ask of the restore.
pub trait RestoreContext {
    /// The object with this id.
    fn anchor(&self, id: u32) -> Result<&RestoredObject>;
    /// Whether it makes a task with this id.
    fn makes(&self, _pid: Pid) -> bool {
        false
    }
    /// What becomes of files that have changed.
    fn changed_files(&self) -> ChangedFiles {
        ChangedFiles::default()
    }
    /// Something that does not stand in the way, and that whoever restores should know.
    fn warn(&self, sentence: String) {
        log::warn!("{sentence}");
    }
}

//! What several open file descriptions can share: a pipe's buffer, the pages of a file without a
//! name. Each such object is in the image once, before the descriptions that refer to it by its id.
//!
//! During a restore the restorer holds one descriptor of each object. Every description and every
//! mapping of the object is opened anew from it, through /proc/self/fd.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::image::frame::{Record, Tag};
use crate::image::page_runs::PageRuns;
use crate::image::record_set::RecordView;
use crate::kind::external::{External, OutsidePipe};
use crate::kind::observed::{NOT_KEPT, ObservedFile, SETTABLE};
use crate::kind::record_sort::{self, RecordSort, Role, Shown};
use crate::options::{ChangedFiles, TerminalRule};
use crate::sys::clone::EndedProcess;
use crate::sys::pid::Pid;
use crate::sys::tty::TerminalState;
use crate::sys::{fd, sysvipc};

/// What open files share: the buffer of a pipe, the contents of a file without a name. `kind` names
/// the sort of object. Pages follow if it has contents in bulk.
pub const TAG: Tag = Tag(*b"OBJT");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TAG, role: Role::Object, show };

/// A dumped object.
pub struct Dumped<T> {
    /// The record's body.
    pub body: T,
    /// Small contents.
    pub blob: Vec<u8>,
    /// Contents in bulk.
    pub contents: Option<ObjectContents>,
}

/// Contents in bulk, as they were at the snapshot.
#[derive(Debug)]
pub struct ObjectContents {
    /// Its pages, by offset in the object.
    pub runs: PageRuns,
    /// The file to read them from, at the same offsets. No process may write to it any more.
    pub file: OwnedFd,
}

/// An object during the restore.
pub struct RestoredObject {
    /// A descriptor of it, open for reading and writing if one descriptor can be both.
    pub fd: OwnedFd,
    /// Its other end, if it has two.
    pub other: Option<OwnedFd>,
    /// Its length in bytes. The last page of the contents is written up to here.
    pub len: u64,
    /// A System V object. It would outlive a restore that fails.
    pub made: Option<sysvipc::CreatedIpc>,
    /// Where its contents are written first, if it existed before the restore. [`Object::publish`]
    /// copies them.
    pub staged: Option<OwnedFd>,
    /// `fd` only stands for its name (O_PATH): opening the file itself could wait or do something.
    pub only_name: bool,
}

impl RestoredObject {
    /// An object of `len` bytes that the restore has made, and that goes with its descriptors.
    pub fn new(fd: OwnedFd, len: u64) -> Self {
        Self { fd, other: None, len, made: None, staged: None, only_name: false }
    }

    /// A new description of the object, with these flags and at this offset.
    ///
    /// # Errors
    /// The image is damaged if it wants to open what [is only a name](Self::only_name).
    pub fn open(&self, flags: i32, position: u64) -> Result<OwnedFd> {
        if self.only_name {
            return Err(Error::damaged(format!("opening an object that is only a name, with flags {flags:#o}")));
        }
        let mode = flags & libc::O_ACCMODE;
        let file = OpenOptions::new()
            .read(mode != libc::O_WRONLY)
            .write(mode != libc::O_RDONLY)
            // The terminal that takes the place of a pipe must not become the daemon's own.
            .custom_flags(flags & !libc::O_ACCMODE & !NOT_KEPT | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
            .doing(|| format!("opening an object with flags {flags:#o}"))?;
        let file = OwnedFd::from(file);
        if position != 0 {
            fd::seek(&file, position).on(|| "an object")?;
        }
        Ok(file)
    }

    /// The description that the object was made with, with these flags and at this offset.
    ///
    /// A descriptor and a mapping may both be this description. A mapping has neither flags nor an
    /// offset, and must not clear those of the descriptor.
    pub fn hand_out(&self, flags: i32, position: u64) -> Result<OwnedFd> {
        let doing = || "the description that an object was made with";
        let file = self.fd.try_clone().doing(doing)?;
        if (flags & SETTABLE, position) == (0, 0) {
            return Ok(file);
        }
        fd::set_flags(&file, flags).on(doing)?;
        fd::seek(&file, position).on(doing)?;
        Ok(file)
    }

    /// Writes contents from `offset` on, whole pages.
    pub fn fill(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let len = (self.len.saturating_sub(offset)).min(bytes.len() as u64) as usize;
        let to = self.staged.as_ref().unwrap_or(&self.fd);
        let file = std::fs::File::from(to.try_clone().doing(|| "duplicating the descriptor of an object")?);
        file.write_all_at(&bytes[..len], offset).doing(|| format!("writing {len} bytes of an object at {offset}"))
    }
}

/// The record of a description that has no state but flags and offset beyond its object.
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
    /// The record of the description `observed` of an object of `kind`.
    pub fn dump(
        kind: &'static dyn DynObject,
        observed: &ObservedFile<'_>,
        objects: &mut dyn DumpContext,
    ) -> Result<Self> {
        let object = objects.id_of(kind, observed)?;
        objects.holds(object, observed.may_not_read()?);
        Ok(Self { object, flags: observed.flags & !NOT_KEPT, position: observed.position })
    }

    /// Opens the description.
    pub fn open(&self, restore: &dyn RestoreContext) -> Result<OwnedFd> {
        restore.object(self.object)?.open(self.flags, self.position)
    }
}

/// The record of what a mapping refers to, for an object that only mappings lead to. A descriptor
/// of it was opened through /proc/PID/map_files.
#[derive(Serialize, Deserialize)]
pub struct MappedReference {
    object: u32,
    /// O_RDONLY or O_RDWR, and the other flags of a descriptor.
    flags: i32,
    /// The offset of a descriptor.
    #[serde(default, skip_serializing_if = "is_start")]
    position: u64,
}

fn is_start(position: &u64) -> bool {
    *position == 0
}

impl MappedReference {
    /// The record of the mapping `observed` of an object of `kind`.
    pub fn dump(
        kind: &'static dyn DynObject,
        observed: &ObservedFile<'_>,
        objects: &mut dyn DumpContext,
    ) -> Result<Self> {
        Ok(Self { object: objects.id_of(kind, observed)?, flags: observed.flags, position: observed.position })
    }

    /// Opens a description for the mapping, or that of a descriptor.
    pub fn open(&self, restore: &dyn RestoreContext) -> Result<OwnedFd> {
        restore.object(self.object)?.open(self.flags, self.position)
    }
}

/// A kind of object.
pub trait Object: Sync {
    /// What is stored: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// Its name in the format.
    const KIND: &'static str;
    /// Whether a process outside the tree may hold an end of it as well.
    const REACHES_OUT: bool = false;

    /// Refuses what [`Object::dump`] would refuse, as far as the object shows it while processes
    /// use it. Opens nothing anew, and reads no contents.
    fn check(&self, _observed: &ObservedFile<'_>) -> Result<()> {
        Ok(())
    }
    /// Records the object, through any of its descriptions. Changes nothing.
    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<Self::Body>>;
    /// Creates it again. Contents in bulk are written afterwards.
    fn make(&self, body: &Self::Body, blob: &[u8]) -> Result<RestoredObject>;
    /// The record of an object that a process outside the tree holds as well.
    fn external(&self, body: Self::Body, _external: External) -> Self::Body {
        body
    }
    /// The object as a process outside the tree held it. A restore connects to it, and creates it
    /// only if its caller wants a new one.
    fn outside(&self, _body: &Self::Body) -> Option<OutsidePipe> {
        None
    }
    /// What the caller of the restore must know about the created object: that it is in another
    /// place.
    fn warning(&self, _body: &Self::Body, _object: &RestoredObject) -> Option<String> {
        None
    }
    /// Does what other processes can notice. It is called when the whole image has been read and
    /// verified, before the descriptions of the object are opened. They must be
    /// [`OpenFile::opens_last`](crate::kind::open_file::OpenFile::opens_last).
    fn publish(&self, _body: &Self::Body, _blob: &[u8], _object: &mut RestoredObject) -> Result<()> {
        Ok(())
    }
    /// Completes it after its contents are written, all descriptions are open and all mappings are
    /// made.
    fn finish(&self, _body: &Self::Body, _object: &RestoredObject) -> Result<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct TaggedObject<T> {
    /// Its id in the image.
    id: u32,
    /// What it is: see below.
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
    /// See [`Object::check`].
    fn check(&self, observed: &ObservedFile<'_>) -> Result<()>;
    /// See [`Object::dump`].
    fn dump(&self, id: u32, observed: &ObservedFile<'_>) -> Result<(Record, Option<ObjectContents>)>;
    /// See [`Object::external`].
    fn external(&self, record: &Record, external: External) -> Result<Record>;
    /// See [`Object::outside`].
    fn outside(&self, record: &Record) -> Result<Option<OutsidePipe>>;
    /// See [`Object::make`].
    fn make(&self, record: &Record) -> Result<RestoredObject>;
    /// See [`Object::warning`].
    fn warning(&self, record: &Record, object: &RestoredObject) -> Result<Option<String>>;
    /// See [`Object::publish`].
    fn publish(&self, record: &Record, object: &mut RestoredObject) -> Result<()>;
    /// See [`Object::finish`].
    fn finish(&self, record: &Record, object: &RestoredObject) -> Result<()>;
}

impl<O: Object> DynObject for O {
    fn kind(&self) -> &'static str {
        O::KIND
    }

    fn reaches_out(&self) -> bool {
        O::REACHES_OUT
    }

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        Object::check(self, observed)
    }

    fn dump(&self, id: u32, observed: &ObservedFile<'_>) -> Result<(Record, Option<ObjectContents>)> {
        let Dumped { body, blob, contents } = Object::dump(self, observed)?;
        let record = Record::new(TAG, &TaggedObject { id, kind: O::KIND.to_owned(), body })?.with_blob(blob);
        Ok((if contents.is_some() { record.opens_pages() } else { record }, contents))
    }

    fn external(&self, record: &Record, external: External) -> Result<Record> {
        let TaggedObject { id, kind, body } = record.body::<TaggedObject<O::Body>>()?;
        Record::new(TAG, &TaggedObject { id, kind, body: Object::external(self, body, external) })
    }

    fn outside(&self, record: &Record) -> Result<Option<OutsidePipe>> {
        Ok(if O::REACHES_OUT { Object::outside(self, &record.body::<TaggedObject<O::Body>>()?.body) } else { None })
    }

    fn make(&self, record: &Record) -> Result<RestoredObject> {
        Object::make(self, &record.body::<TaggedObject<O::Body>>()?.body, &record.blob)
    }

    fn warning(&self, record: &Record, object: &RestoredObject) -> Result<Option<String>> {
        Ok(Object::warning(self, &record.body::<TaggedObject<O::Body>>()?.body, object))
    }

    fn publish(&self, record: &Record, object: &mut RestoredObject) -> Result<()> {
        Object::publish(self, &record.body::<TaggedObject<O::Body>>()?.body, &record.blob, object)
    }

    fn finish(&self, record: &Record, object: &RestoredObject) -> Result<()> {
        Object::finish(self, &record.body::<TaggedObject<O::Body>>()?.body, object)
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

/// What a kind of open file may ask for during a dump. Every object gets one id, however many
/// descriptions lead to it.
pub trait DumpContext {
    /// The id of the object of `kind` behind `observed`. The first call dumps the object.
    fn id_of(&mut self, kind: &'static dyn DynObject, observed: &ObservedFile<'_>) -> Result<u32>;
    /// Whether the processes may run: then nothing of theirs is changed, not even for a moment.
    fn only_checks(&self) -> bool {
        false
    }
    /// Whether this process is in the tree that is dumped.
    fn is_in_tree(&self, _pid: Pid) -> bool {
        false
    }
    /// A process of the tree has a description of object `id`. With a sentence it may not read the
    /// object: the image then has contents that were not the process's to read, unless another
    /// description is for reading.
    fn holds(&mut self, _id: u32, _may_not_read: Option<String>) {}
}

/// What a kind of open file may ask for during a restore: the objects of the image, and more.
pub trait RestoreContext {
    /// The object with this id.
    fn object(&self, id: u32) -> Result<&RestoredObject>;
    /// Whether the restore creates a task with this id.
    fn restores_task(&self, _pid: Pid) -> bool {
        false
    }
    /// How to treat a file that has changed since the dump.
    fn changed_files(&self) -> ChangedFiles {
        ChangedFiles::default()
    }
    /// What happens about a terminal whose other end is outside the tree.
    fn terminals(&self) -> TerminalRule {
        TerminalRule::default()
    }
    /// The terminal that takes the place of all of the image.
    fn terminal(&self) -> Option<&Path> {
        None
    }
    /// Remembers how the tree has left the terminal `device`, whose place another one takes.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](crate::error::Kind): another terminal has it already.
    fn terminal_was(&self, _device: u64, _name: &str, _state: Option<TerminalState>) -> Result<()> {
        Ok(())
    }
    /// Makes a process that has ended, and keeps it until every process has its directories.
    fn keep_ended(&self, pid: Pid) -> Result<()> {
        EndedProcess::make(pid).map(drop)
    }
    /// Passes a warning to the caller of the restore.
    fn warn(&self, sentence: String) {
        log::warn!("{sentence}");
    }
}

#[cfg(test)]
pub mod fake {
    use super::*;

    /// At a dump every object has id 0. At a restore there is at most this one.
    pub struct OneObject(pub Option<RestoredObject>);

    impl DumpContext for OneObject {
        fn id_of(&mut self, _: &'static dyn DynObject, _: &ObservedFile<'_>) -> Result<u32> {
            Ok(0)
        }
    }

    impl RestoreContext for OneObject {
        fn object(&self, id: u32) -> Result<&RestoredObject> {
            self.0.as_ref().filter(|_| id == 0).ok_or_else(|| Error::damaged("no such object"))
        }
    }

    /// No object.
    pub fn none() -> OneObject {
        OneObject(None)
    }
}

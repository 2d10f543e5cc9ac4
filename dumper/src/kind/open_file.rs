//! A kind of open file: its record, how it is dumped, and how it is opened again.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::file_identity::FileIdentity;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::record_sort::{self, RecordSort, Role, Shown, ShownFile};
use crate::kind::unnoticed::Unnoticed;

/// An open file description. `kind` names the sort of file that it leads to.
pub const TAG: Tag = Tag(*b"FILE");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TAG, role: Role::OpenFile, show };

/// See [`OpenFile::FORGET`].
pub type Forget = fn(&OwnedFd) -> Result<()>;

/// A kind of open file.
pub trait OpenFile: Sync {
    /// What is stored: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// Its name in the format.
    const KIND: &'static str;

    /// Whether the file is of this kind.
    fn takes(&self, observed: &ObservedFile<'_>) -> bool;
    /// Whether the file is of this kind and a mapping of it can be restored, even if it is neither
    /// a regular file nor a directory.
    fn is_mappable(&self, _seen: &ObservedFile<'_>) -> bool {
        false
    }
    /// Records the file, or refuses one that cannot be restored. Changes nothing.
    fn dump(&self, observed: &ObservedFile<'_>, context: &mut dyn DumpContext) -> Result<Self::Body>;
    /// Whether it can be opened only after the whole image has been read. By then the processes
    /// exist again, and [`Object::publish`](crate::kind::object::Object::publish) has been called.
    fn opens_last(&self) -> bool {
        false
    }
    /// Whether it opens something that the caller of the restore hands over, whoever may open that,
    /// in the place of the file of the record.
    fn is_handed_over(&self, _context: &dyn RestoreContext) -> bool {
        false
    }
    /// Takes out of the restored description what the restore itself has caused. It is called when
    /// the restore has closed everything else, and before the tree runs.
    const FORGET: Option<Forget> = None;
    /// Adds to the record what is found when the tree runs again, because it takes time. `mapped`
    /// are the parts that private mappings of the tree show: offset and length, in any order.
    /// `files` opens files.
    fn settle(&self, body: Self::Body, _mapped: &[(u64, u64)], _files: &Unnoticed) -> Self::Body {
        body
    }
    /// Opens it again, as the same description.
    fn restore(&self, body: Self::Body, context: &dyn RestoreContext) -> Result<OwnedFd>;
}

#[derive(Serialize, Deserialize)]
struct TaggedOpenFile<T> {
    /// Its id in the image.
    id: u32,
    /// What it leads to: see below.
    kind: String,
    /// The file that had the name, if the file has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<FileIdentity>,
    #[serde(flatten)]
    body: T,
}

/// An [`OpenFile`] in a table.
pub trait DynOpenFile: Sync {
    /// See [`OpenFile::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`OpenFile::takes`].
    fn takes(&self, observed: &ObservedFile<'_>) -> bool;
    /// See [`OpenFile::is_mappable`].
    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool;
    /// See [`OpenFile::dump`].
    fn dump(&self, id: u32, observed: &ObservedFile<'_>, context: &mut dyn DumpContext) -> Result<Record>;
    /// See [`OpenFile::opens_last`].
    fn opens_last(&self) -> bool;
    /// See [`OpenFile::is_handed_over`].
    fn is_handed_over(&self, context: &dyn RestoreContext) -> bool;
    /// See [`OpenFile::FORGET`].
    fn forget(&self) -> Option<Forget>;
    /// See [`OpenFile::settle`].
    fn settle(&self, record: &Record, mapped: &[(u64, u64)], files: &Unnoticed) -> Result<Record>;
    /// See [`OpenFile::restore`].
    fn restore(&self, record: &Record, context: &dyn RestoreContext) -> Result<OwnedFd>;
}

impl<O: OpenFile> DynOpenFile for O {
    fn kind(&self) -> &'static str {
        O::KIND
    }

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::takes(self, observed)
    }

    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool {
        OpenFile::is_mappable(self, observed)
    }

    fn dump(&self, id: u32, observed: &ObservedFile<'_>, context: &mut dyn DumpContext) -> Result<Record> {
        let body = OpenFile::dump(self, observed, context)?;
        // The kernel makes the files of /proc anew at each look.
        let has_name =
            observed.target.is_absolute() && observed.stat.nlink() > 0 && !observed.target.starts_with("/proc");
        let identity = has_name.then(|| FileIdentity::of(&observed.stat));
        Record::new(TAG, &TaggedOpenFile { id, kind: O::KIND.to_owned(), identity, body })
    }

    fn opens_last(&self) -> bool {
        OpenFile::opens_last(self)
    }

    fn is_handed_over(&self, context: &dyn RestoreContext) -> bool {
        OpenFile::is_handed_over(self, context)
    }

    fn forget(&self) -> Option<Forget> {
        O::FORGET
    }

    fn settle(&self, record: &Record, mapped: &[(u64, u64)], files: &Unnoticed) -> Result<Record> {
        let TaggedOpenFile { id, kind, body, identity } = record.body::<TaggedOpenFile<O::Body>>()?;
        Record::new(TAG, &TaggedOpenFile { id, kind, body: OpenFile::settle(self, body, mapped, files), identity })
    }

    fn restore(&self, record: &Record, context: &dyn RestoreContext) -> Result<OwnedFd> {
        OpenFile::restore(self, record.body::<TaggedOpenFile<O::Body>>()?.body, context)
    }
}

fn show(record: &RecordView<'_>) -> Result<Shown> {
    /// The fields that most kinds have.
    #[derive(Deserialize)]
    struct Common {
        id: u32,
        kind: String,
        object: Option<u32>,
        #[serde(default)]
        flags: i32,
        position: Option<serde_json::Value>,
    }
    let Common { id, kind, object, flags, position } = record.body()?;
    let label = record_sort::label(&record.body()?, &kind);
    Ok(Shown::OpenFile(ShownFile { id, kind, object, flags, position, label }))
}

/// The file that had the name of an open file, from its record.
pub fn identity(record: &Record) -> Result<Option<FileIdentity>> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        identity: Option<FileIdentity>,
    }
    let Named { identity } = record.body()?;
    Ok(identity)
}

/// The id and kind of an open file's record.
pub fn id_and_kind(record: &Record) -> Result<(u32, String)> {
    #[derive(Deserialize)]
    struct Head {
        id: u32,
        kind: String,
    }
    let head: Head = record.body()?;
    Ok((head.id, head.kind))
}

//! What an open file description has to do with others: the files that an epoll instance watches.
//! It is recorded when all descriptions of the tree are known, and restored when all of them are
//! open again.

use std::cmp::Ordering;
use std::os::fd::RawFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::observed::ObservedFile;
use crate::kind::record_sort::{RecordSort, Role, Shown};
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;

/// A descriptor of a description that may have to do with others.
pub struct Relating<'a> {
    /// Its open file.
    pub file: &'a ObservedFile<'a>,
    /// The process, or thread with a table of its own, in whose table it is.
    pub tid: Pid,
    /// A task that has the descriptor: of a process whose leader has ended, another one.
    pub task: Pid,
    /// Its number there.
    pub number: i32,
}

/// The file that is looked for among the descriptions of the tree.
pub struct Wanted {
    /// Its device and inode, as the kernel numbers them. A filesystem may show another device to
    /// stat(2).
    pub inode: (u64, u64),
    /// A descriptor that probably leads to it.
    pub first: (Pid, i32),
}

/// Compares the file of a descriptor of a task with the wanted one, in the order of kcmp(2).
pub type Order<'a> = dyn FnMut(Pid, i32) -> Result<Ordering> + 'a;

/// The descriptions of the tree.
pub trait Descriptions {
    /// The id of the description that `order` says is the wanted one, if the tree has it.
    fn find(&self, wanted: &Wanted, order: &mut Order<'_>) -> Result<Option<u32>>;
    /// The id of the name that a link of /proc leads to, as an open file (O_PATH). `subject` is for
    /// errors.
    fn id_of_name(&mut self, link: &str, subject: &str) -> Result<u32>;
    /// Whether a file with this device and inode was refused. Only a check goes on then.
    fn has_refused(&self, _inode: (u64, u64)) -> bool {
        false
    }
}

/// The task that has the description. It has no descriptors so far.
pub trait EmptyTable {
    /// Gives it descriptors of these files, by number and id of the file.
    fn place(&mut self, files: &[(i32, u32)]) -> Result<()>;
    /// The calls that it will make; those that were added are made as soon as there are many.
    fn calls(&mut self) -> Result<&mut Checked>;
    /// Has the calls made.
    fn flush(&mut self) -> Result<()>;
    /// Has the calls made, and closes the descriptors.
    fn clear(&mut self) -> Result<()>;
    /// The description with this id, open here.
    fn fd(&self, id: u32) -> Result<RawFd>;
    /// The same, if the task may open the file.
    fn own_fd(&self, id: u32) -> Result<RawFd>;
}

/// A kind of relation.
pub trait Relation: Sync {
    /// What is stored: its field names are the format. There may be several for one description.
    type Body: Serialize + DeserializeOwned;
    /// The record's tag.
    const TAG: Tag;

    /// Whether a file of this kind has such relations.
    fn takes(&self, observed: &ObservedFile<'_>) -> bool;
    /// Records them and changes nothing.
    fn dump(&self, relating: &Relating<'_>, others: &mut dyn Descriptions) -> Result<Vec<Self::Body>>;
    /// The ids of the other descriptions.
    fn others(body: &Self::Body) -> Vec<u32>;
    /// Restores all relations of the description `id`.
    fn restore(&self, id: u32, bodies: Vec<Self::Body>, table: &mut dyn EmptyTable) -> Result<()>;
}

#[derive(Serialize, Deserialize)]
struct TaggedRelation<T> {
    /// The id of the description.
    id: u32,
    /// The first process that has it, or a thread with a table of its own.
    tid: Pid,
    #[serde(flatten)]
    body: T,
}

/// A [`Relation`] in a table.
pub trait DynRelation: Sync {
    /// See [`Relation::TAG`].
    fn tag(&self) -> Tag;
    /// Its row in the table of records.
    fn sort(&self) -> RecordSort;
    /// See [`Relation::takes`].
    fn takes(&self, observed: &ObservedFile<'_>) -> bool;
    /// See [`Relation::dump`].
    fn dump(&self, id: u32, relating: &Relating<'_>, others: &mut dyn Descriptions) -> Result<Vec<Record>>;
    /// See [`Relation::restore`]. `records` are those of one description.
    fn restore(&self, id: u32, records: &[&Record], table: &mut dyn EmptyTable) -> Result<()>;
}

impl<R: Relation> DynRelation for R {
    fn tag(&self) -> Tag {
        R::TAG
    }

    fn sort(&self) -> RecordSort {
        RecordSort { tag: R::TAG, role: Role::Relation, show: show::<R> }
    }

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        Relation::takes(self, observed)
    }

    fn dump(&self, id: u32, relating: &Relating<'_>, others: &mut dyn Descriptions) -> Result<Vec<Record>> {
        let bodies = Relation::dump(self, relating, others)?.into_iter();
        bodies.map(|body| Record::new(R::TAG, &TaggedRelation { id, tid: relating.tid, body })).collect()
    }

    fn restore(&self, id: u32, records: &[&Record], table: &mut dyn EmptyTable) -> Result<()> {
        let bodies = records.iter().map(|record| Ok(record.body::<TaggedRelation<R::Body>>()?.body));
        Relation::restore(self, id, bodies.collect::<Result<Vec<_>>>()?, table)
    }
}

fn show<R: Relation>(record: &RecordView<'_>) -> Result<Shown> {
    let TaggedRelation { id, body, .. } = record.body::<TaggedRelation<R::Body>>()?;
    Ok(Shown::Relation(id, R::others(&body)))
}

/// The id of the description that a record is about, and the task that has it.
pub fn id_and_task(record: &Record) -> Result<(u32, Pid)> {
    #[derive(Deserialize)]
    struct Head {
        id: u32,
        tid: Pid,
    }
    let Head { id, tid } = record.body()?;
    Ok((id, tid))
}

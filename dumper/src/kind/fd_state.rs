//! What a descriptor has beyond what open(2) gives: locks, a process to be signalled. It names
//! processes, so it is restored late. The process itself makes the calls at the descriptor's own
//! number, because the kernel stores the caller and the number.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::{Record, Tag};
use crate::image::record_set::RecordView;
use crate::kind::observed::ObservedFile;
use crate::kind::record_sort::{RecordSort, Role, Shown};
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;

/// The first descriptor of a process that refers to a description. The description is recorded.
pub struct ObservedFd<'a> {
    /// Its open file.
    pub file: &'a ObservedFile<'a>,
    /// O_* of the description, all of them.
    pub flags: i32,
    /// Its `fdinfo`, in which a field may occur more than once.
    pub info: &'a str,
    /// Whether a descriptor of the same description came before, in another process. Duplicates in
    /// one process have the same states and are not asked.
    pub is_known: bool,
}

/// A task that a record names. It must be in the image as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A thread.
    Task(Pid),
    /// A process.
    Process(Pid),
    /// A process group.
    Group(Pid),
}

/// A kind of state that a descriptor can have.
pub trait FdState: Sync {
    /// What is stored: its field names are the format.
    type Body: Serialize + DeserializeOwned;
    /// The record's tag.
    const TAG: Tag;

    /// Records it and changes nothing.
    fn dump(&self, observed: &ObservedFd<'_>) -> Result<Vec<Self::Body>>;
    /// The task that it names.
    fn names(&self, _body: &Self::Body) -> Option<Named> {
        None
    }
    /// Adds the calls that restore it on descriptor `fd`. `subject` is for errors.
    fn restore(&self, body: &Self::Body, fd: i32, subject: &str, calls: &mut Checked) -> Result<()>;
}

#[derive(Serialize, Deserialize)]
struct TaggedFdState<T> {
    /// A process that has the descriptor.
    tid: Pid,
    /// Its number there.
    fd: i32,
    #[serde(flatten)]
    body: T,
}

fn show(record: &RecordView<'_>) -> Result<Shown> {
    #[derive(Deserialize)]
    struct Head {
        tid: Pid,
        fd: i32,
    }
    let Head { tid, fd } = record.body()?;
    Ok(Shown::FdState(tid, fd))
}

/// A [`FdState`] in a table.
pub trait DynFdState: Sync {
    /// See [`FdState::TAG`].
    fn tag(&self) -> Tag;
    /// Its row in the table of records.
    fn sort(&self) -> RecordSort;
    /// See [`FdState::dump`] and [`FdState::names`].
    fn dump(&self, tid: Pid, fd: i32, observed: &ObservedFd<'_>) -> Result<Vec<(Record, Option<Named>)>>;
    /// See [`FdState::restore`].
    fn restore(&self, record: &Record, calls: &mut Checked) -> Result<()>;
}

impl<L: FdState> DynFdState for L {
    fn tag(&self) -> Tag {
        L::TAG
    }

    fn sort(&self) -> RecordSort {
        RecordSort { tag: L::TAG, role: Role::FdState, show }
    }

    fn dump(&self, tid: Pid, fd: i32, observed: &ObservedFd<'_>) -> Result<Vec<(Record, Option<Named>)>> {
        let found = FdState::dump(self, observed)?.into_iter().map(|body| {
            let named = self.names(&body);
            Ok((Record::new(L::TAG, &TaggedFdState { tid, fd, body })?, named))
        });
        found.collect()
    }

    fn restore(&self, record: &Record, calls: &mut Checked) -> Result<()> {
        let TaggedFdState { tid, fd, body } = record.body::<TaggedFdState<L::Body>>()?;
        FdState::restore(self, &body, fd, &format!("pid {tid} fd {fd}"), calls)
    }
}

//! The record of a descriptor table: which open file each descriptor is.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::record_sort::{RecordSort, Role, Shown};
use crate::sys::pid::Pid;

/// The descriptor table of a process. Body: [`FdTable`].
pub const TABLE: Tag = Tag(*b"FDTB");
/// Its row in the table of records.
pub const SORT: RecordSort = RecordSort { tag: TABLE, role: Role::Task, show };

/// The descriptors of a process, or of a thread with a table of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct FdTable {
    /// The process, or the thread.
    pub tid: Pid,
    /// Number, id of the open file, close-on-exec.
    pub fds: Vec<(i32, u32, bool)>,
}

fn show(record: &RecordView<'_>) -> Result<Shown> {
    let FdTable { tid, fds } = record.body()?;
    Ok(Shown::FdTable(tid, fds))
}

//! The table of the sorts of records, nothing else.
//!
//! A new sort needs its own file, which holds its tag, its body and its row, and a line here. A
//! kind of attribute, of descriptor state or of System V object is a sort too. It has its line in
//! the table of its room.

use crate::error::Result;
use crate::file::{self, fd_table, mapped_lock};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::record_sort::{RecordSort, Role, Shown, ShownProcess, Subject};
use crate::kind::{object, open_file};
use crate::memory::{vdso, vma};
use crate::pstree::record::{self, Ended, Process, Tree};
use crate::sysv::table::IpcName;
use crate::task::cgroup;
use crate::{sysv, task};

/// Every sort, in the order of an image. Each comes after the sorts that it needs. The tree names
/// tasks, open files refer to objects, relations and descriptor tables to open files, the state of
/// a descriptor to its table. Mappings come last, because a restore begins to create processes with
/// the first mapping.
pub fn sorts() -> impl Iterator<Item = RecordSort> {
    // The tree and System V objects are below the floor on which rows are defined.
    let tree = RecordSort { tag: record::TAG, role: Role::Tree, show: show_tree };
    let of_tasks = [vdso::SORT, cgroup::SORT, mapped_lock::SORT];
    let sysv = sysv::KINDS.iter().map(|kind| RecordSort { tag: kind.tag(), role: Role::SysvIpc, show: show_ipc });
    [tree]
        .into_iter()
        .chain(of_tasks)
        .chain(task::KINDS.iter().map(|kind| kind.sort()))
        .chain(sysv)
        .chain([object::SORT, open_file::SORT])
        .chain(file::RELATIONS.iter().map(|kind| kind.sort()))
        .chain([fd_table::SORT])
        .chain(file::FD_STATES.iter().map(|kind| kind.sort()))
        .chain([vma::SORT])
}

/// The row of a tag, or `None` if it is unknown.
pub fn sort(tag: Tag) -> Option<RecordSort> {
    sorts().find(|sort| sort.tag == tag)
}

/// What a record is about.
///
/// # Errors
/// Damaged: its body does not name it.
pub fn subject(record: &RecordView<'_>) -> Result<Subject> {
    Subject::of(sort(record.tag).map(|sort| sort.role), record)
}

/// What a record shows, or `None` if its sort is unknown.
///
/// # Errors
/// Damaged: its body is not understood.
pub fn show(record: &RecordView<'_>) -> Result<Option<Shown>> {
    sort(record.tag).map(|sort| (sort.show)(record)).transpose()
}

fn show_tree(record: &RecordView<'_>) -> Result<Shown> {
    #[derive(serde::Deserialize)]
    struct Bodies {
        processes: Vec<serde_json::Value>,
    }
    let Tree { kernel, processes, .. } = record.body()?;
    let shown = |(process, body): (Process, serde_json::Value)| {
        let Process { pid, ppid, pgid, sid, stopped_by, .. } = process;
        let ended = process.ended.map(|Ended { status, comm, .. }| (status, comm));
        let (threads, made_by) = (process.threads.len(), process.maker.by);
        ShownProcess { pid, ppid, pgid, sid, threads, made_by, stopped_by, ended, body }
    };
    let bodies = record.body::<Bodies>()?.processes;
    Ok(Shown::Tree(kernel, processes.into_iter().zip(bodies).map(shown).collect()))
}

fn show_ipc(record: &RecordView<'_>) -> Result<Shown> {
    let IpcName { id, key, mode, .. } = record.body()?;
    Ok(Shown::SysvIpc { id, key, mode })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_tag_belongs_to_one_sort() {
        let tags: Vec<_> = sorts().map(|sort| sort.tag).collect();
        assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len(), "{tags:?}");
    }
}

//! The records of an image that wait until its processes exist.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::file::fd_table;
use crate::image::frame::{Record, Tag};
use crate::kind::attribute::tid_of;
use crate::kind::relation;
use crate::pstree::record::Tree;
use crate::sys::pid::Pid;

/// The process tree and everything that its tasks have, as records.
#[derive(Default)]
pub struct PendingRecords {
    tree: Option<Tree>,
    /// Every thread of the tree.
    tasks: BTreeSet<Pid>,
    /// The representative thread of each process that has one.
    representatives: BTreeMap<Pid, Pid>,
    of_tasks: BTreeMap<(Pid, Tag), Record>,
    fd_states: Vec<Record>,
    /// By the id of the open file, and the task that has it.
    relations: BTreeMap<(Tag, u32, Pid), Vec<Record>>,
}

impl PendingRecords {
    /// Takes the process tree, which no other may precede.
    pub fn add_tree(&mut self, record: &Record) -> Result<()> {
        if self.tree.is_some() {
            return Err(out_of_place(record.tag));
        }
        let tree = Tree::parse(record)?;
        self.tasks = tree.processes.iter().flat_map(|process| process.threads.iter().copied()).collect();
        let alive = tree.processes.iter().filter(|process| !process.threads.is_empty());
        self.representatives = alive.map(|process| (process.pid, process.representative())).collect();
        self.tree = Some(tree);
        Ok(())
    }

    /// Takes a record of a task: one of the tree, which has no record of this sort yet.
    pub fn add_of_task(&mut self, record: Record) -> Result<()> {
        let (tid, tag) = (tid_of(&record)?, record.tag);
        if !self.has_task(tid) {
            return Err(Error::damaged(format!("record {tag} of task {tid}, which is not in the tree")));
        }
        match self.of_tasks.insert((tid, tag), record) {
            None => Ok(()),
            Some(_) => Err(Error::damaged(format!("record {tag} occurs twice for one task"))),
        }
    }

    /// Takes what an open file has to do with others.
    pub fn add_relation(&mut self, record: Record) -> Result<()> {
        let (id, tid) = relation::id_and_task(&record)?;
        self.relations.entry((record.tag, id, tid)).or_default().push(record);
        Ok(())
    }

    /// The relations of open files: the id of the file, a task that has it, and the records.
    pub fn relations(&self, tag: Tag) -> impl Iterator<Item = (u32, Pid, Vec<&Record>)> {
        let of_tag = self.relations.iter().filter(move |((of, ..), _)| *of == tag);
        of_tag.map(|((_, id, tid), records)| (*id, *tid, records.iter().collect()))
    }

    /// Takes the state of a descriptor: its task has a descriptor table.
    pub fn add_fd_state(&mut self, record: Record) -> Result<()> {
        let (tid, tag) = (tid_of(&record)?, record.tag);
        if self.of_task(tid, fd_table::TABLE).is_none() {
            return Err(Error::damaged(format!("record {tag} of task {tid}, which has no descriptors")));
        }
        self.fd_states.push(record);
        Ok(())
    }

    /// The process tree.
    ///
    /// # Errors
    /// Damaged: it was not the first record.
    pub fn tree(&self) -> Result<&Tree> {
        self.tree.as_ref().ok_or_else(|| Error::damaged("the image does not begin with its tree"))
    }

    /// The thread that speaks for a process, if the process has one.
    pub fn representative(&self, pid: Pid) -> Option<Pid> {
        self.representatives.get(&pid).copied()
    }

    /// Whether a task is in the tree.
    pub fn has_task(&self, tid: Pid) -> bool {
        self.tasks.contains(&tid)
    }

    /// The record of a task; most sorts are there for each task.
    pub fn of_task(&self, tid: Pid, tag: Tag) -> Option<&Record> {
        self.of_tasks.get(&(tid, tag))
    }

    /// The record of a task of process `pid`.
    ///
    /// # Errors
    /// Damaged: it is missing.
    pub fn required(&self, pid: Pid, tid: Pid, tag: Tag) -> Result<&Record> {
        let missing = || Error::damaged(format!("pid {pid} task {tid}: record {tag} is missing"));
        self.of_task(tid, tag).ok_or_else(missing)
    }

    /// The body of the record of a task, if there is one.
    pub fn body<T: DeserializeOwned>(&self, tid: Pid, tag: Tag) -> Result<Option<T>> {
        self.of_task(tid, tag).map(Record::body).transpose()
    }

    /// The states of descriptors with this tag.
    pub fn fd_states(&self, tag: Tag) -> impl Iterator<Item = &Record> {
        self.fd_states.iter().filter(move |record| record.tag == tag)
    }
}

/// The error for a record that is not known, or must not follow those before it.
pub fn out_of_place(tag: Tag) -> Error {
    Error::damaged(format!("record {tag} is not known here, or not in its place"))
}

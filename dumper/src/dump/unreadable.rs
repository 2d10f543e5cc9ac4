//! What an image has that the user of the tree could not read itself. Such an image is for root.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::image::frame::Record;
use crate::kind::attribute::tid_of;
use crate::pstree::record::{Share, Tree};
use crate::sys::identity::Identity;
use crate::sys::pid::Pid;
use crate::task::creds;

/// A reason why an instant is for root only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The process that it is about. `None`: only the image of the whole tree.
    pub pid: Option<Pid>,
    /// What it is, and why.
    pub sentence: String,
}

/// The tasks that act for another user than their process: a thread that has changed its
/// credentials alone (setresuid(2) as a system call), or a process that shares the memory of a
/// parent with other credentials. The kernel is asked about the process, and the memory shows both.
///
/// `tasks` are the records of all tasks.
pub fn other_users(tree: &Tree, tasks: &[Record]) -> Result<Vec<Unreadable>> {
    let mut users: BTreeMap<Pid, Identity> = BTreeMap::new();
    for record in tasks.iter().filter(|record| record.tag == creds::TAG) {
        users.insert(tid_of(record)?, creds::identity(record)?);
    }
    let user = |tid: Pid| users.get(&tid);
    let mut found = Vec::new();
    for process in &tree.processes {
        let (pid, own) = (process.pid, process.representative());
        let other = process.threads.iter().find(|tid| user(**tid).is_some_and(|it| Some(it) != user(own)));
        if let Some(tid) = other {
            let sentence = format!("pid {pid} task {tid}: it has other credentials than its process");
            found.push(Unreadable { pid: Some(pid), sentence });
        }
        let parent = tree.processes.iter().find(|parent| parent.pid == process.ppid);
        let differs = |parent: Pid| user(parent).is_some_and(|it| Some(it) != user(own));
        if process.shares(Share::Vm) && parent.is_some_and(|parent| differs(parent.representative())) {
            let sentence = format!("pid {pid}: it shares its memory with pid {}, which is another user", process.ppid);
            found.push(Unreadable { pid: Some(pid), sentence });
        }
    }
    Ok(found)
}

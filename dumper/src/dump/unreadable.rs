//! What an image has that the user of the tree could not read itself. Such an image is for root.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::image::frame::Record;
use crate::kind::attribute::tid_of;
use crate::pstree::record::{Process, Share, Tree};
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
/// credentials alone (setresuid(2) as a system call), or a process that shares the memory of its
/// maker, which has other credentials. The kernel is asked about the process, and the memory shows
/// both.
///
/// `tasks` are the records of all tasks.
pub fn other_users(tree: &Tree, tasks: &[Record]) -> Result<Vec<Unreadable>> {
    let mut users: BTreeMap<Pid, Identity> = BTreeMap::new();
    for record in tasks.iter().filter(|record| record.tag == creds::TAG) {
        users.insert(tid_of(record)?, creds::identity(record)?);
    }
    let user = |tid: Pid| users.get(&tid);
    let by_pid: BTreeMap<Pid, &Process> = tree.processes.iter().map(|process| (process.pid, process)).collect();
    let mut found = Vec::new();
    for process in &tree.processes {
        let (pid, own) = (process.pid, process.representative());
        let other = process.threads.iter().find(|tid| user(**tid).is_some_and(|it| Some(it) != user(own)));
        if let Some(tid) = other {
            let sentence = format!("pid {pid} task {tid}: it has other credentials than its process");
            found.push(Unreadable { pid: Some(pid), sentence });
        }
        let maker = by_pid.get(&process.maker.by);
        let differs = |maker: Pid| user(maker).is_some_and(|it| Some(it) != user(own));
        if process.shares(Share::Vm) && maker.is_some_and(|maker| differs(maker.representative())) {
            let maker = process.maker.by;
            let sentence = format!("pid {pid}: it shares its memory with pid {maker}, which is another user");
            found.push(Unreadable { pid: Some(pid), sentence });
        }
    }
    Ok(found)
}

//! The processes of an image with their parents, groups, sessions and threads: the first record.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::pstree::clocks::Clocks;
use crate::pstree::fork_plan::{Maker, Member, Sessions};
use crate::pstree::outside_terminal::OutsideTerminal;
use crate::sys::kcmp::Kcmp;
use crate::sys::pid::Pid;
use crate::sys::signal;

/// The processes of the image with their parents, groups, sessions and threads. The first record.
/// Body: [`Tree`].
pub const TAG: Tag = Tag(*b"TREE");

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// In the order in which they are made: a maker comes before the processes that it makes.
    pub processes: Vec<Process>,
    /// The kernel that the image was taken on (uname -r). A vDSO fits only that kernel.
    pub kernel: String,
    /// The place of each component of the extended state in the XSAVE area of each thread, as this
    /// processor lays it out: number, size, offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xsave: Vec<(u32, u32, u32)>,
    /// What the clocks of the tree showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocks: Option<Clocks>,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id. The parent of a root is not in the image.
    pub ppid: Pid,
    /// Its process group.
    pub pgid: Pid,
    /// Its session.
    pub sid: Pid,
    /// Its threads, the leader first. Empty if it has ended.
    pub threads: Vec<Pid>,
    /// How it is made.
    #[serde(default, rename = "made")]
    pub maker: Maker,
    /// The signal that its parent gets when it ends, clone(2).
    #[serde(default = "sigchld")]
    pub exit_signal: i32,
    /// What it shares with its maker.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Threads that have their own descriptor table, or their own root and working directory.
    #[serde(default)]
    pub own: Vec<(Pid, Share)>,
    /// The remains of its leader, if that has ended while other threads live (pthread_exit(3) in
    /// main).
    #[serde(default)]
    pub leader_ended: Option<Ended>,
    /// Whether it shares pages with its maker, copy-on-write.
    #[serde(default)]
    pub inherits: bool,
    /// The remains of it, if it has ended and its parent has not waited for it yet.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// The signal that has stopped it by job control.
    pub stopped_by: Option<i32>,
    /// Whether its parent has waited for the stop already.
    #[serde(default, rename = "stop_told")]
    pub stop_reported: bool,
    /// Whether it was continued, and its parent has not waited for that yet.
    #[serde(default)]
    pub continued: bool,
    /// The device number of its controlling terminal, if it leads a session that has one.
    pub terminal: Option<u32>,
    /// By what a restore knows that it is the same terminal. Images before this field do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_node: Option<OutsideTerminal>,
    /// The process group in the foreground of that terminal.
    #[serde(default)]
    pub foreground: Option<Pid>,
}

fn sigchld() -> i32 {
    libc::SIGCHLD
}

/// What a process can share with its maker without being a thread of it: CLONE_* of clone(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// The address space.
    Vm,
    /// Root, working directory, umask.
    Fs,
    /// The descriptor table.
    Files,
    /// Signal actions.
    Sighand,
}

impl Share {
    /// Everything that can be shared.
    pub const ALL: [Self; 4] = [Self::Vm, Self::Fs, Self::Files, Self::Sighand];

    /// Its flag of clone(2).
    pub fn clone_flag(self) -> i32 {
        match self {
            Self::Vm => libc::CLONE_VM,
            Self::Fs => libc::CLONE_FS,
            Self::Files => libc::CLONE_FILES,
            Self::Sighand => libc::CLONE_SIGHAND,
        }
    }

    /// Its type in kcmp(2), which shows whether two processes share it.
    pub fn kcmp(self) -> Kcmp {
        match self {
            Self::Vm => Kcmp::Vm,
            Self::Fs => Kcmp::Fs,
            Self::Files => Kcmp::Files,
            Self::Sighand => Kcmp::Sighand,
        }
    }
}

/// The remains of a process, or of a thread group leader, that has ended: a zombie.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The status that wait(2) will give.
    pub status: i32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its real user.
    pub uid: u32,
    /// Its real group.
    pub gid: u32,
}

impl Process {
    /// A process that exists only while others are made and has no task in the image. It leads the
    /// session or the group with its number, if it is a member of that session or group.
    pub fn placeholder(member: Member, pgid: Pid, maker: Maker) -> Self {
        let Member { pid, ppid, sid } = member;
        Self {
            pid,
            ppid,
            pgid,
            sid,
            threads: Vec::new(),
            maker,
            exit_signal: libc::SIGCHLD,
            shares: Vec::new(),
            own: Vec::new(),
            leader_ended: None,
            inherits: false,
            ended: None,
            stopped_by: None,
            stop_reported: true,
            continued: false,
            terminal: None,
            terminal_node: None,
            foreground: None,
        }
    }

    /// Whether it shares this with its maker.
    pub fn shares(&self, what: Share) -> bool {
        self.shares.contains(&what)
    }

    /// Whether a thread has its own copy of this.
    pub fn owns(&self, tid: Pid, what: Share) -> bool {
        self.own.contains(&(tid, what))
    }

    /// The representative thread: the first that has not ended. What belongs to the whole process
    /// is dumped through it.
    pub fn representative(&self) -> Pid {
        let threads = if self.leader_ended.is_some() { self.threads.get(1) } else { self.threads.first() };
        threads.copied().unwrap_or(self.pid)
    }

    /// Whether it exists only while others are made.
    pub fn is_placeholder(&self) -> bool {
        self.threads.is_empty() && self.ended.is_none()
    }
}

/// The processes that have no parent among `processes`.
pub fn roots(processes: &[Process]) -> impl Iterator<Item = &Process> {
    let is_known = |pid: Pid| processes.iter().any(|process| process.pid == pid);
    processes.iter().filter(move |process| !is_known(process.ppid))
}

impl Tree {
    /// The session that a process gets.
    ///
    /// A session without its leader in the image stays with the program that started the roots.
    /// Processes that were in it together are together again, in a new session. The first root of
    /// that session leads it.
    pub fn session(&self, process: &Process) -> Pid {
        let is_known = |pid: Pid| self.processes.iter().any(|it| it.pid == pid);
        if is_known(process.sid) {
            return process.sid;
        }
        roots(&self.processes).find(|root| root.sid == process.sid).map_or(process.sid, |root| root.pid)
    }

    /// The process group that a process gets.
    ///
    /// A group without its leader in the image is made anew in the same way, led by its first root.
    /// If no root is in it, its members join the group of the session's leader.
    pub fn group(&self, process: &Process) -> Pid {
        let is_known = |pid: Pid| self.processes.iter().any(|it| it.pid == pid);
        if is_known(process.pgid) {
            return process.pgid;
        }
        let same = |root: &&Process| root.pgid == process.pgid && root.sid == process.sid;
        roots(&self.processes).find(same).map_or_else(|| self.session(process), |root| root.pid)
    }

    /// The process that the memory of `pid` is copied from when it is made. It is the nearest among
    /// its maker, the maker's maker and so on that has memory of its own.
    pub fn memory_owner(&self, pid: Pid) -> Option<Pid> {
        let process = |pid: Pid| self.processes.iter().find(|process| process.pid == pid);
        let mut maker = process(process(pid)?.maker.by)?;
        while maker.is_placeholder() || maker.shares(Share::Vm) {
            maker = process(maker.maker.by)?;
        }
        Some(maker.pid)
    }

    /// Whether a group is orphaned: no member has a parent in the same session and outside the
    /// group (`will_become_orphaned_pgrp` in kernel/exit.c). The parent of a root is the restorer,
    /// which is in another session.
    fn is_orphaned(&self, group: Pid) -> bool {
        let members = self.processes.iter().filter(|it| !it.threads.is_empty() && self.group(it) == group);
        let mut parents = members.filter_map(|it| {
            let parent = self.processes.iter().find(|parent| parent.pid == it.ppid)?;
            Some((self.group(parent), self.session(parent) == self.session(it)))
        });
        !parents.any(|(its_group, same_session)| its_group != group && same_session)
    }

    /// Checks at dump time that the processes can be made as planned.
    ///
    /// # Errors
    /// Unsupported: names the process that cannot be restored.
    pub fn validate(&self) -> Result<()> {
        let mut sessions = Sessions::default();
        for process in &self.processes {
            let Process { pid, maker, .. } = *process;
            if maker.by == 0 {
                sessions.lead(pid);
                continue;
            }
            let leads = |pid: Pid| self.processes.iter().any(|it| it.pid == pid && it.sid == pid);
            if sessions.has_left(maker) && leads(maker.by) {
                sessions.lead(maker.by);
            }
            let impossible = |error: Error| Error::unsupported(format!("{error}: it cannot be rebuilt"));
            sessions.enter(pid, maker, self.session(process)).map_err(impossible)?;
        }
        let stopped = |it: &&Process| !it.stop_reported && it.stopped_by.is_some_and(|signal| signal != libc::SIGSTOP);
        for process in self.processes.iter().filter(stopped) {
            let (pid, group, signal) = (process.pid, self.group(process), process.stopped_by.unwrap_or(0));
            if self.is_orphaned(group) {
                return Err(Error::unsupported(format!(
                    "pid {pid}: stopped by {}, and its parent has not asked for that yet: it cannot be checkpointed, \
                     because its group {group} will be orphaned without the processes outside the tree, and such a signal does not \
                     stop an orphaned group",
                    signal::name(signal)
                )));
            }
        }
        Ok(())
    }

    /// Reads the record.
    ///
    /// # Errors
    /// Damaged: no process, a process that does not begin with its leader, an id below 1 or twice,
    /// a maker that comes after a process that it makes.
    pub fn parse(record: &Record) -> Result<Self> {
        let tree: Self = record.body()?;
        let mut ids = BTreeSet::new();
        for process in &tree.processes {
            let pid = process.pid;
            let leader = process.threads.first();
            if leader.is_some_and(|leader| *leader != pid) || leader.is_some() && process.ended.is_some() {
                return Err(Error::damaged(format!("process {pid} does not begin with its leader")));
            }
            if process.maker.by != 0 && !ids.contains(&process.maker.by) {
                return Err(Error::damaged(format!("process {pid} comes before its maker {}", process.maker.by)));
            }
            if (process.inherits || !process.shares.is_empty()) && process.maker.by == 0 {
                return Err(Error::damaged(format!("process {pid} shares with no process")));
            }
            let others = process.threads.iter().skip(1);
            for tid in others.chain([&pid]) {
                if *tid < 1 || !ids.insert(*tid) {
                    return Err(Error::damaged(format!("task id {tid} is no id or occurs twice")));
                }
            }
        }
        if tree.processes.first().is_none_or(|root| root.threads.is_empty()) {
            return Err(Error::damaged("an image without a process"));
        }
        Ok(tree)
    }
}

//! Who is there: processes with their parents, groups and sessions, and their threads. The first record of an image.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::pstree::fork_plan::{Maker, Member, Sessions};
use crate::sys::kcmp::Kcmp;
use crate::sys::pid::Pid;

/// The record's tag.
pub const TAG: Tag = Tag(*b"TREE");

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// In the order of making: makers before those that they make.
    pub processes: Vec<Process>,
    /// The kernel that wrote it (uname -r): a vDSO fits only its own.
    pub kernel: String,
    /// Where the components of the extended state stand in the area that each thread has (the processor's): number, size, offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xsave: Vec<(u32, u32, u32)>,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id; that of a root is not in the image.
    pub ppid: Pid,
    /// Its process group.
    pub pgid: Pid,
    /// Its session.
    pub sid: Pid,
    /// Its threads, the leader first; none if it has ended.
    pub threads: Vec<Pid>,
    /// How it is made.
    #[serde(default, rename = "made")]
    pub maker: Maker,
    /// What its parent is sent when it ends, clone(2).
    #[serde(default = "sigchld")]
    pub exit_signal: i32,
    /// What it shares with its maker.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// What threads have to themselves: a descriptor table, or directories.
    #[serde(default)]
    pub own: Vec<(Pid, Share)>,
    /// Its leader has ended (pthread_exit(3) in main); the others go on.
    #[serde(default)]
    pub leader_ended: Option<Ended>,
    /// Some of its pages are its maker's, copy-on-write.
    #[serde(default)]
    pub inherits: bool,
    /// It has ended and waits for its parent to ask.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// Stopped by job control with this signal.
    pub stopped_by: Option<i32>,
    /// Its parent has asked already, and knows that it stopped.
    #[serde(default, rename = "stop_told")]
    pub stop_reported: bool,
    /// It was continued, and its parent has not asked for that yet.
    #[serde(default)]
    pub continued: bool,
    /// The controlling terminal's device number, if it leads a session with one.
    pub terminal: Option<u32>,
    /// The group in the foreground of that terminal.
    #[serde(default)]
    pub foreground: Option<Pid>,
}

fn sigchld() -> i32 {
    libc::SIGCHLD
}

/// What a process can share with the one that made it, beside being its thread: CLONE_* of clone(2).
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
    /// All of them.
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

    /// The question of kcmp(2) whether two processes share it.
    pub fn kcmp(self) -> Kcmp {
        match self {
            Self::Vm => Kcmp::Vm,
            Self::Fs => Kcmp::Fs,
            Self::Files => Kcmp::Files,
            Self::Sighand => Kcmp::Sighand,
        }
    }
}

/// What is left of a process, or of a leader alone, that has ended (a zombie).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// As wait(2) will tell it.
    pub status: i32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its real user.
    pub uid: u32,
    /// Its real group.
    pub gid: u32,
}

impl Process {
    /// Somebody without a task: there only while others are made, leading session and group of that number if they are its own.
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
            foreground: None,
        }
    }

    /// Whether it shares this with its maker.
    pub fn shares(&self, what: Share) -> bool {
        self.shares.contains(&what)
    }

    /// Whether a thread has this to itself.
    pub fn owns(&self, tid: Pid, what: Share) -> bool {
        self.own.contains(&(tid, what))
    }

    /// The first thread that has not ended: it is asked for all that belongs to the process.
    pub fn representative(&self) -> Pid {
        let threads = if self.leader_ended.is_some() { self.threads.get(1) } else { self.threads.first() };
        threads.copied().unwrap_or(self.pid)
    }

    /// Whether it is there only while others are made: it has no task of its own in the image.
    pub fn is_placeholder(&self) -> bool {
        self.threads.is_empty() && self.ended.is_none()
    }
}

/// Those whose parent is not among them.
pub fn roots(processes: &[Process]) -> impl Iterator<Item = &Process> {
    let is_known = |pid: Pid| processes.iter().any(|process| process.pid == pid);
    processes.iter().filter(move |process| !is_known(process.ppid))
}

impl Tree {
    /// The session that a process is to be in. One whose leader is not in the image belongs to whoever started the roots: those that
    /// were in it together will be so again, in a new one led by the first of them.
    pub fn session(&self, process: &Process) -> Pid {
        let is_known = |pid: Pid| self.processes.iter().any(|it| it.pid == pid);
        if is_known(process.sid) {
            return process.sid;
        }
        roots(&self.processes).find(|root| root.sid == process.sid).map_or(process.sid, |root| root.pid)
    }

    /// The group that a process is to be in. Of one that is not of the image the same holds; whoever is in one without a root is in that
    /// of the session's leader.
    pub fn group(&self, process: &Process) -> Pid {
        let is_known = |pid: Pid| self.processes.iter().any(|it| it.pid == pid);
        if is_known(process.pgid) {
            return process.pgid;
        }
        let same = |root: &&Process| root.pgid == process.pgid && root.sid == process.sid;
        roots(&self.processes).find(same).map_or_else(|| self.session(process), |root| root.pid)
    }

    /// The process whose memory `pid` is a copy of when it is made: its maker, or the nearest maker of a maker that has memory of its
    /// own.
    pub fn memory_owner(&self, pid: Pid) -> Option<Pid> {
        let process = |pid: Pid| self.processes.iter().find(|process| process.pid == pid);
        let mut maker = process(process(pid)?.maker.by)?;
        while maker.is_placeholder() || maker.shares(Share::Vm) {
            maker = process(maker.maker.by)?;
        }
        Some(maker.pid)
    }

    /// Whether a group has nobody to take care of it: no member's parent is outside the group and in its session (`will_become_orphaned_pgrp`
    /// in kernel/exit.c). A root's parent is the restorer, in another one.
    fn is_orphaned(&self, group: Pid) -> bool {
        let members = self.processes.iter().filter(|it| !it.threads.is_empty() && self.group(it) == group);
        let mut parents = members.filter_map(|it| {
            let parent = self.processes.iter().find(|parent| parent.pid == it.ppid)?;
            Some((self.group(parent), self.session(parent) == self.session(it)))
        });
        !parents.any(|(theirs, same_session)| theirs != group && same_session)
    }

    /// Goes through what a restore will do, as far as it is known by now: what it would stumble over is told at the dump.
    ///
    /// # Errors
    /// Unsupported, by name.
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
                    "pid {pid}: stopped by signal {signal}, and its parent has not asked for that yet: it cannot be checkpointed, because \
                     its group {group} will be an orphan without whoever is outside the tree, and such a signal does not stop it"
                )));
            }
        }
        Ok(())
    }

    /// Reads the record and refuses what cannot be: no process, no leader, ids that are no ids or occur twice, a maker that comes later.
    pub fn parse(record: &Record) -> Result<Self> {
        let tree: Self = record.body()?;
        let mut seen = std::collections::BTreeSet::new();
        for process in &tree.processes {
            let pid = process.pid;
            let leader = process.threads.first();
            if leader.is_some_and(|leader| *leader != pid) || leader.is_some() && process.ended.is_some() {
                return Err(Error::damaged(format!("process {pid} does not begin with its leader")));
            }
            if process.maker.by != 0 && !seen.contains(&process.maker.by) {
                return Err(Error::damaged(format!("process {pid} comes before its maker {}", process.maker.by)));
            }
            if (process.inherits || !process.shares.is_empty()) && process.maker.by == 0 {
                return Err(Error::damaged(format!("process {pid} shares with nobody")));
            }
            let others = process.threads.iter().skip(1);
            for tid in others.chain([&pid]) {
                if *tid < 1 || !seen.insert(*tid) {
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

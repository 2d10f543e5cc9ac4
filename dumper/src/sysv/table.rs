//! The tables of System V IPC: /proc/sysvipc and who uses what.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::Record;
use crate::sys::pid::Pid;
use crate::sys::proc::{self, stat, status};
use crate::sys::ptrace::Regs;
use crate::sys::sysvipc::IpcKind;
use crate::sysv::undo::{self, Adjustment};
use crate::sysv::{message_queues, semaphores};

/// All that there are in the namespace, when a tree stands still.
pub struct IpcTables(pub Vec<IpcEntry>);

/// One of them: a line of /proc/sysvipc/sem or msg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpcEntry {
    pub kind: IpcKind,
    pub name: IpcName,
    /// Semaphores of a set; bytes in a queue.
    pub size: usize,
    /// The queue's last sender and last receiver.
    pub users: Vec<Pid>,
    /// Somebody has operated on it.
    pub is_used: bool,
    /// When it was made or its owner changed, seconds since the epoch.
    changed: u64,
}

/// By what it is known, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpcName {
    pub id: i32,
    pub key: i32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
}

/// Who is in the tree.
pub struct IpcUsers {
    /// Every process.
    pub pids: BTreeSet<Pid>,
    /// What threads wait for.
    pub waits: Vec<(IpcKind, i32)>,
    /// Also what may be the tree's own is wanted.
    pub wants_owned: bool,
    /// What is to be undone.
    pub adjustments: Vec<Adjustment>,
}

impl IpcTables {
    /// Reads the tables. A kernel without System V has none.
    pub fn look() -> Self {
        let table = |name: &str| proc::read_text(&format!("/proc/sysvipc/{name}")).unwrap_or_default();
        Self(parse(IpcKind::Sem, &table("sem")).chain(parse(IpcKind::Msg, &table("msg"))).collect())
    }

    pub fn find(&self, kind: IpcKind, id: i32) -> Option<&IpcEntry> {
        self.0.iter().find(|entry| entry.kind == kind && entry.name.id == id)
    }

    /// The records of those that are the tree's.
    ///
    /// # Errors
    /// EBUSY: others change one faster than it can be read.
    /// [`crate::error::Kind::Unsupported`]: two processes have one list of what is to be undone.
    pub fn records(&self, users: &IpcUsers) -> Result<Vec<Record>> {
        undo::refuse_shared(&users.adjustments)?;
        let mut records = Vec::new();
        let mut own = None;
        for entry in &self.0 {
            let mut last = entry.users.clone();
            if entry.kind == IpcKind::Sem {
                last = match semaphores::users(entry) {
                    // Gone since, or not the daemon's to look at.
                    Err(error) if is_gone(&error) || error.kind() == crate::error::Kind::System(libc::EACCES) => {
                        Vec::new()
                    }
                    users => users?,
                };
            }
            let waits = users.waits.contains(&(entry.kind, entry.name.id));
            let undoes = entry.kind == IpcKind::Sem && users.adjustments.iter().any(|it| it.set == entry.name.id);
            let is_ours = waits || undoes || last.iter().any(|pid| users.pids.contains(pid));
            let is_somebodys = last.iter().any(|pid| is_alive(*pid));
            let mut may_be_ours = || own.get_or_insert_with(|| OwnedByTree::of(&users.pids)).may_have_made(entry);
            if !is_ours && (is_somebodys || !users.wants_owned || !may_be_ours()) {
                continue;
            }
            let record = match entry.kind {
                IpcKind::Sem => semaphores::record(entry, is_ours, &users.adjustments),
                IpcKind::Msg => message_queues::record(entry, is_ours),
                IpcKind::Shm => continue,
            };
            match record {
                Err(error) if is_gone(&error) => log::debug!("{} {}: {error}", entry.kind, entry.name.id),
                // Whoever changes it now is not of the tree, which stands still.
                Err(error) if !is_ours => log::debug!("{} {}: {error}", entry.kind, entry.name.id),
                record => records.push(record?),
            }
        }
        Ok(records)
    }
}

/// Whose objects are taken for the tree's if nobody alive has used them.
pub struct OwnedByTree {
    uids: BTreeSet<u64>,
    /// When the first of the tree began, seconds since the epoch.
    since: u64,
}

impl OwnedByTree {
    fn of(pids: &BTreeSet<Pid>) -> Self {
        let boot = proc::read_text("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(u64::MAX);
        let stats = pids.iter().filter_map(|pid| stat::Stat::read(&format!("/proc/{pid}/stat")).ok());
        // Ticks of 1/100 s (USER_HZ); the second in which it began counts.
        let since =
            stats.map(|stat| boot.saturating_add(stat.started() / stat::TICKS_PER_SECOND)).min().unwrap_or(u64::MAX);
        let uid = |pid: &Pid| {
            let status = status::Fields::read(&format!("/proc/{pid}/status")).ok()?;
            status.numbers("Uid").get(1).copied()
        };
        Self { uids: pids.iter().filter_map(uid).collect(), since }
    }

    fn may_have_made(&self, entry: &IpcEntry) -> bool {
        self.uids.contains(&entry.name.cuid.into()) && entry.changed >= self.since
    }
}

/// The object has been removed.
pub fn is_gone(error: &Error) -> bool {
    [libc::EIDRM, libc::EINVAL].iter().any(|errno| error.kind() == crate::error::Kind::System(*errno))
}

pub fn is_alive(pid: Pid) -> bool {
    pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
}

/// What a thread with these registers waits for, or has just used.
pub fn waits_for(regs: &Regs) -> Option<(IpcKind, i32)> {
    let kind = match regs.orig_rax.cast_signed() {
        libc::SYS_semop | libc::SYS_semtimedop => IpcKind::Sem,
        libc::SYS_msgsnd | libc::SYS_msgrcv => IpcKind::Msg,
        _ => return None,
    };
    Some((kind, regs.rdi as i32))
}

pub fn parse(kind: IpcKind, text: &str) -> impl Iterator<Item = IpcEntry> {
    text.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<i64>().ok();
        // Where the owner stands, and the times: of operations, of the change.
        let (owner, times) = if kind == IpcKind::Sem { (4, 8..9) } else { (7, 11..13) };
        let users = if kind == IpcKind::Sem { None } else { Some([number(5)? as Pid, number(6)? as Pid]) };
        Some(IpcEntry {
            kind,
            name: IpcName {
                id: number(1)? as i32,
                key: number(0)? as i32,
                mode: u32::from_str_radix(words.get(2)?, 8).ok()? & 0o777,
                uid: number(owner)? as u32,
                gid: number(owner + 1)? as u32,
                cuid: number(owner + 2)? as u32,
                cgid: number(owner + 3)? as u32,
            },
            size: number(3)? as usize,
            users: users.into_iter().flatten().collect(),
            is_used: times.clone().any(|at| number(at).is_some_and(|time| time != 0)),
            changed: number(times.end)?.cast_unsigned(),
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_the_tables() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                    -559038737      32769   600          3     1     2     3     4          0 1790000000\n";
        let found: Vec<IpcEntry> = parse(IpcKind::Sem, text).collect();
        let name = IpcName { id: 32769, key: -559_038_737, mode: 0o600, uid: 1, gid: 2, cuid: 3, cgid: 4 };
        let entry =
            IpcEntry { kind: IpcKind::Sem, name, size: 3, users: vec![], is_used: false, changed: 1_790_000_000 };
        assert_eq!(found, [entry]);
        let text = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n\
                    7          5   644          12          1   77     0     1     2     3     4          9 0 1790000000\n";
        let entry = parse(IpcKind::Msg, text).next().unwrap();
        assert_eq!((entry.size, entry.users, entry.is_used, entry.changed), (12, vec![77, 0], true, 1_790_000_000));
        assert_eq!((entry.name.mode, entry.name.cgid), (0o644, 4));
        assert_eq!(parse(IpcKind::Msg, "").count(), 0);
    }
}

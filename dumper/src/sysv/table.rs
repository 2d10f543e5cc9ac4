//! The tables of System V IPC, as /proc/sysvipc shows them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::ptrace::Regs;
use crate::sys::sysvipc::ipc_kind::IpcKind;

/// All semaphore sets and message queues of the namespace.
pub struct IpcTables(pub Vec<IpcEntry>);

/// One of them: a line of /proc/sysvipc/sem or msg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpcEntry {
    /// Which table it is in.
    pub kind: IpcKind,
    /// Its id, key, owner and creator.
    pub name: IpcName,
    /// Semaphores of a set, or bytes in a queue.
    pub size: usize,
    /// The queue's last sender and last receiver.
    pub users: Vec<Pid>,
    /// Whether a process has operated on it.
    pub is_used: bool,
    /// When it was created or its owner changed, seconds since the epoch.
    pub changed: u64,
}

/// The identity of an object: its id, key, owner and creator.
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

impl IpcTables {
    /// Reads the tables. A kernel without System V IPC has none.
    pub fn read() -> Self {
        let table = |name: &str| proc::read_text(&format!("/proc/sysvipc/{name}")).unwrap_or_default();
        Self(parse(IpcKind::Sem, &table("sem")).chain(parse(IpcKind::Msg, &table("msg"))).collect())
    }

    /// The object with this id.
    pub fn find(&self, kind: IpcKind, id: i32) -> Option<&IpcEntry> {
        self.0.iter().find(|entry| entry.kind == kind && entry.name.id == id)
    }
}

/// Whether a call failed because the object has been removed.
pub fn is_gone(error: &Error) -> bool {
    [libc::EIDRM, libc::EINVAL].iter().any(|errno| error.errno() == Some(*errno))
}

/// Whether a process has this pid.
pub fn is_alive(pid: Pid) -> bool {
    pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
}

/// The object that a thread with these registers waits on, or has just used.
pub fn waits_for(regs: &Regs) -> Option<(IpcKind, i32)> {
    let kind = match regs.orig_rax.cast_signed() {
        libc::SYS_semop | libc::SYS_semtimedop => IpcKind::Sem,
        libc::SYS_msgsnd | libc::SYS_msgrcv => IpcKind::Msg,
        _ => return None,
    };
    Some((kind, regs.rdi as i32))
}

/// The lines of one table, without its heading.
fn parse(kind: IpcKind, text: &str) -> impl Iterator<Item = IpcEntry> {
    text.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<i64>().ok();
        // Which columns hold the owner and the times (of operations, then of the change).
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

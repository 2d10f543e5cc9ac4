//! System V semaphores and message queues, sysvipc(7): they belong to no process, outlive all, and are known by their numbers alone. One
//! is in the image if the tree uses it: a process of it was the last to operate on it, waits for it, or has operations on it to undo.
//! One that nobody alive has used, of the user and the time of the tree, may be the tree's own (made by a child that has ended), or
//! anybody's. The mount says whether it is in the image too (`sysv-ipc=owned`); at the restore it is made if it is missing, and left
//! alone if it is there.
//!
//! At the restore one that is still there, made in the same boot, is the very same one: if somebody outside who is alive was the last to
//! use it, it keeps what it has, otherwise it is given back what it had, as late as can be, because a restore that fails must leave it
//! as it was. Another one with its id or key is in the way (EEXIST).
//!
//! Shared memory is in the image by its mappings: `file::sysv_shm`.

pub mod message_queues;
pub mod semaphores;
pub mod undo;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::kind::attribute::Checked;
use crate::sys::pid::Pid;
use crate::sys::proc::{self, stat, status};
use crate::sys::ptrace::Regs;
use crate::sys::sysvipc::{self, Kind};
use crate::sysv::undo::Adjustment;

/// Every kind.
pub const KINDS: &[&dyn Row] = &[&semaphores::Sets, &message_queues::Queues];

/// All that there are in the namespace, when a tree stands still.
pub struct There(Vec<Entry>);

/// One of them: a line of /proc/sysvipc/sem or msg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    name: Name,
    /// Semaphores of a set; bytes in a queue.
    size: usize,
    /// The queue's last sender and last receiver.
    users: Vec<Pid>,
    /// Somebody has operated on it.
    is_used: bool,
    /// When it was made or its owner changed, seconds since the epoch.
    changed: u64,
}

/// By what it is known, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    id: i32,
    key: i32,
    mode: u32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
}

/// Who is in the tree.
pub struct Users {
    /// Every process.
    pub pids: BTreeSet<Pid>,
    /// What threads wait for.
    pub waits: Vec<(Kind, i32)>,
    /// Also what may be the tree's own is wanted.
    pub wants_owned: bool,
    /// What is to be undone.
    pub adjustments: Vec<Adjustment>,
}

impl There {
    /// Reads the tables. A kernel without System V has none.
    pub fn look() -> Self {
        let table = |name: &str| proc::read_text(&format!("/proc/sysvipc/{name}")).unwrap_or_default();
        Self(parse(Kind::Sem, &table("sem")).chain(parse(Kind::Msg, &table("msg"))).collect())
    }

    fn find(&self, kind: Kind, id: i32) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.kind == kind && entry.name.id == id)
    }

    /// The records of those that are the tree's.
    ///
    /// # Errors
    /// EBUSY: others change one faster than it can be read.
    /// [`crate::error::Kind::Unsupported`]: two processes have one list of what is to be undone.
    pub fn records(&self, users: &Users) -> Result<Vec<Record>> {
        undo::refuse_shared(&users.adjustments)?;
        let mut records = Vec::new();
        let mut own = None;
        for entry in &self.0 {
            let mut last = entry.users.clone();
            if entry.kind == Kind::Sem {
                last = match semaphores::users(entry) {
                    // Gone since, or not the daemon's to look at.
                    Err(error) if is_gone(&error) || error.kind() == crate::error::Kind::System(libc::EACCES) => {
                        Vec::new()
                    }
                    users => users?,
                };
            }
            let waits = users.waits.contains(&(entry.kind, entry.name.id));
            let undoes = entry.kind == Kind::Sem && users.adjustments.iter().any(|it| it.set == entry.name.id);
            let is_ours = waits || undoes || last.iter().any(|pid| users.pids.contains(pid));
            let is_somebodys = last.iter().any(|pid| is_alive(*pid));
            let mut may_be_ours = || own.get_or_insert_with(|| Own::of(&users.pids)).may_have_made(entry);
            if !is_ours && (is_somebodys || !users.wants_owned || !may_be_ours()) {
                continue;
            }
            let record = match entry.kind {
                Kind::Sem => semaphores::record(entry, is_ours, &users.adjustments),
                Kind::Msg => message_queues::record(entry, is_ours),
                Kind::Shm => continue,
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
struct Own {
    uids: BTreeSet<u64>,
    /// When the first of the tree began, seconds since the epoch.
    since: u64,
}

impl Own {
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

    fn may_have_made(&self, entry: &Entry) -> bool {
        self.uids.contains(&entry.name.cuid.into()) && entry.changed >= self.since
    }
}

/// The object has been removed.
fn is_gone(error: &Error) -> bool {
    [libc::EIDRM, libc::EINVAL].iter().any(|errno| error.kind() == crate::error::Kind::System(*errno))
}

fn is_alive(pid: Pid) -> bool {
    pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
}

/// What a thread with these registers waits for, or has just used.
pub fn waits_for(regs: &Regs) -> Option<(Kind, i32)> {
    let kind = match regs.orig_rax.cast_signed() {
        libc::SYS_semop | libc::SYS_semtimedop => Kind::Sem,
        libc::SYS_msgsnd | libc::SYS_msgrcv => Kind::Msg,
        _ => return None,
    };
    Some((kind, regs.rdi as i32))
}

fn parse(kind: Kind, text: &str) -> impl Iterator<Item = Entry> {
    text.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<i64>().ok();
        // Where the owner stands, and the times: of operations, of the change.
        let (owner, times) = if kind == Kind::Sem { (4, 8..9) } else { (7, 11..13) };
        let users = if kind == Kind::Sem { None } else { Some([number(5)? as Pid, number(6)? as Pid]) };
        Some(Entry {
            kind,
            name: Name {
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

/// What an image tells of any of them.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    name: Name,
    /// The boot in which its id is its own.
    boot: String,
    /// The tree is known to use it.
    is_ours: bool,
}

impl Told {
    fn of(entry: &Entry, is_ours: bool) -> Result<Self> {
        Ok(Self { name: entry.name.clone(), boot: sysvipc::boot()?, is_ours })
    }

    /// The very same one, if it is still there.
    ///
    /// # Errors
    /// EEXIST: another one has its id or its key.
    fn find(&self, kind: Kind, size: Option<usize>) -> Result<Option<Entry>> {
        let Name { id, key, cuid, cgid, .. } = self.name;
        let in_the_way = |id: i32, letter: &str| {
            let told = format!("{kind} {} (key {key:#x}): {kind} {id} is in the way (ipcrm -{letter})", self.name.id);
            Error::os(told, libc::EEXIST)
        };
        let letter = if kind == Kind::Sem { "s" } else { "q" };
        if let Some(there) = There::look().find(kind, id) {
            let same = (there.name.key, there.name.cuid, there.name.cgid) == (key, cuid, cgid);
            if !same || size.is_some_and(|size| size != there.size) || sysvipc::boot()? != self.boot {
                return Err(in_the_way(id, letter));
            }
            return Ok(Some(there.clone()));
        }
        kind.with_key(key).map_or(Ok(None), |other| Err(in_the_way(other, letter)))
    }
}

/// One at the restore.
pub struct Restored {
    row: &'static dyn Row,
    record: Record,
    state: State,
}

/// How one came to be there.
#[derive(Debug)]
pub enum State {
    /// It was not there: it goes again if the restore fails.
    Made(sysvipc::Made),
    /// It was there, and is not given back yet what it had.
    Found,
    /// It was there and is others' too: it keeps what it has. Its name.
    Others(String),
}

impl Restored {
    /// Reads the record and makes the object, with all that it holds; `None` if the record is of another kind.
    pub fn make(record: &Record) -> Option<Result<Self>> {
        let row = *KINDS.iter().find(|row| row.tag() == record.tag)?;
        Some(row.make(record).map(|state| Self { row, record: record.clone(), state }))
    }

    /// What whoever restores should know.
    pub fn warning(&self) -> Option<String> {
        match &self.state {
            State::Others(name) => {
                Some(format!("{name} is used by others, or by nobody who is known: it stays as it is"))
            }
            State::Made(_) | State::Found => None,
        }
    }

    /// What processes have to do with it, when they are there and may do everything; then its permissions.
    pub fn finish(self, actors: &mut dyn Actors) -> Result<Option<sysvipc::Made>> {
        self.row.finish(&self.record, &self.state, actors)?;
        Ok(if let State::Made(made) = self.state { Some(made) } else { None })
    }
}

/// Those who are being restored.
pub trait Actors {
    /// Makes calls in `pid`; `false` if that is none of them.
    fn act(&mut self, pid: Pid, calls: &mut dyn FnMut(&mut Checked)) -> Result<bool>;
}

/// A kind in the table.
pub trait Row: Sync {
    /// Its tag.
    fn tag(&self) -> Tag;
    /// Makes it with all that it holds, or finds it, and leaves it as it is.
    fn make(&self, record: &Record) -> Result<State>;
    /// See [`Restored::finish`].
    fn finish(&self, record: &Record, state: &State, actors: &mut dyn Actors) -> Result<()>;
}

/// Nobody is there yet: every number is free, and calls are made by short-lived processes.
struct Nobody;

impl Actors for Nobody {
    fn act(&mut self, _pid: Pid, _calls: &mut dyn FnMut(&mut Checked)) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_the_tables() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                    -559038737      32769   600          3     1     2     3     4          0 1790000000\n";
        let found: Vec<Entry> = parse(Kind::Sem, text).collect();
        let name = Name { id: 32769, key: -559_038_737, mode: 0o600, uid: 1, gid: 2, cuid: 3, cgid: 4 };
        let entry = Entry { kind: Kind::Sem, name, size: 3, users: vec![], is_used: false, changed: 1_790_000_000 };
        assert_eq!(found, [entry]);
        let text = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n\
                    7          5   644          12          1   77     0     1     2     3     4          9 0 1790000000\n";
        let entry = parse(Kind::Msg, text).next().unwrap();
        assert_eq!((entry.size, entry.users, entry.is_used, entry.changed), (12, vec![77, 0], true, 1_790_000_000));
        assert_eq!((entry.name.mode, entry.name.cgid), (0o644, 4));
        assert_eq!(parse(Kind::Msg, "").count(), 0);
    }
}

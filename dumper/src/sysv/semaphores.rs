//! Semaphore sets, semget(2): the values, whose operation was the last on each, and what is to be undone when a process ends.
//!
//! The last user is a number that only a process with it can leave behind; all are free when the image begins to be read, so a process of
//! that number sets the value. When the time comes at which it last changed, that time is the restore's (IPC_STAT, sem_otime).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::sys::clone::{self, Creator};
use crate::sys::errno;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Call;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc::IpcKind;
use crate::sys::sysvipc::sem::{self, NOWAIT, Op, UNDO, VALUE_MOST};
use crate::sysv::IpcHead;
use crate::sysv::kind::{Actors, DynSysv, IpcState};
use crate::sysv::table::{IpcEntry, is_alive};
use crate::sysv::undo::{Adjustment, series};

/// Table row.
pub struct SemaphoreSets;

const TAG: Tag = Tag(*b"SEMS");
/// semop(2), SEMOPM: operations of one call.
const OPS_MOST: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
struct SemaphoreSetBody {
    #[serde(flatten)]
    told: IpcHead,
    values: Vec<u16>,
    /// Whose operation was the last on each, 0 if nobody's.
    pids: Vec<Pid>,
    undo: Vec<Adjustment>,
}

/// Whose operations were the last on the semaphores of a set.
pub fn users(entry: &IpcEntry) -> Result<Vec<Pid>> {
    (0..entry.size).map(|n| sem::last_user(entry.name.id, n as u16)).collect()
}

/// The record of a set.
pub fn record(entry: &IpcEntry, is_ours: bool, adjustments: &[Adjustment]) -> Result<Record> {
    let of_it = |it: &&Adjustment| it.set == entry.name.id;
    let body = SemaphoreSetBody {
        told: IpcHead::of(entry, is_ours)?,
        values: sem::values(entry.name.id, entry.size)?,
        pids: users(entry)?,
        undo: adjustments.iter().filter(of_it).copied().collect(),
    };
    Record::new(TAG, &body)
}

impl SemaphoreSetBody {
    fn shown(&self) -> String {
        format!("semaphore set {} (key {:#x})", self.told.name.id, self.told.name.key)
    }

    fn is_others(&self, there: &IpcEntry) -> Result<bool> {
        if !self.told.is_ours {
            return Ok(true);
        }
        let waited_for = |n: usize| sem::waiting(there.name.id, n as u16);
        let mut waiting = 0;
        for n in 0..there.size {
            waiting += waited_for(n)?;
        }
        Ok(waiting > 0 || users(there)?.into_iter().any(is_alive))
    }

    /// The values of a set that was just made, each by whom it was last changed.
    fn put_values(&self) -> Result<()> {
        let id = self.told.name.id;
        let mut by_pid: BTreeMap<Pid, Vec<Call>> = BTreeMap::new();
        for (n, (value, pid)) in self.values.iter().zip(&self.pids).enumerate() {
            if *pid != 0 || *value != 0 {
                by_pid.entry(*pid).or_default().push(sem::set_value(id, n as u16, *value));
            }
        }
        for (pid, calls) in by_pid {
            let got = clone::call_as(Creator::own(pid), &calls)?;
            errno::check(got, || format!("{}: setting values", self.shown()))?;
        }
        Ok(())
    }

    /// The values of a set that was there, which somebody may owe an operation: SETVAL would take that from him.
    fn change_values(&self, actors: &mut dyn Actors) -> Result<()> {
        let now = sem::values(self.told.name.id, self.values.len())?;
        for (n, (value, pid)) in self.values.iter().zip(&self.pids).enumerate() {
            let (from, to) = (i32::from(now[n]), i32::from(*value));
            let last = sem::last_user(self.told.name.id, n as u16)?;
            if from == to && (last == *pid || *pid == 0) {
                continue;
            }
            let op = |add: i32| Op { n: n as u16, add: add as i16, flags: NOWAIT };
            let up = if to < VALUE_MOST { 1 } else { -1 };
            let ops = if from == to { vec![op(up), op(-up)] } else { vec![op(to - from)] };
            self.operate_as(*pid, &ops, "the value that it had", actors)?;
        }
        Ok(())
    }

    /// Operations by a process of this number.
    fn operate_as(&self, pid: Pid, ops: &[Op], what: &str, actors: &mut dyn Actors) -> Result<()> {
        let n = ops.first().map_or(0, |op| op.n);
        let doing = format!("pid {pid}: {}: semaphore {n}: {what}", self.shown());
        if !actors.act(pid, &mut |calls| operate(self.told.name.id, ops, calls, &doing))? {
            let bytes = Op::bytes(ops);
            let call = sem::operate(self.told.name.id, bytes.as_ptr() as u64, ops.len());
            errno::check(clone::call_as(Creator::own(pid), &[call])?, || doing)?;
        }
        Ok(())
    }

    /// Operations that leave the value of `n` as it is and `add` to be undone.
    fn owing(&self, it: &Adjustment, others: bool) -> Vec<Op> {
        if others {
            // What was done by the process is done again: its end has undone it.
            return series(it.n, -it.add).into_iter().filter(|op| op.flags & UNDO != 0).collect();
        }
        let op = |add: i32| Op { n: it.n, add: add as i16, flags: NOWAIT };
        let value = self.values.get(usize::from(it.n)).copied().map_or(0, i32::from);
        let mut ops = vec![op(-value)];
        ops.extend(series(it.n, -it.add));
        ops.push(op(value));
        ops
    }

    fn owe(&self, others: bool, actors: &mut dyn Actors) -> Result<()> {
        for it in &self.undo {
            let ops = self.owing(it, others);
            let doing = format!("pid {}: {}: semaphore {}: an operation to be undone", it.pid, self.shown(), it.n);
            if !actors.act(it.pid, &mut |calls| operate(self.told.name.id, &ops, calls, &doing))? {
                return Err(Error::damaged(format!("{doing}: not in the tree")));
            }
        }
        Ok(())
    }

    /// Those who were the last on a semaphore are again.
    fn touch(&self, actors: &mut dyn Actors) -> Result<()> {
        for (n, (value, pid)) in self.values.iter().zip(&self.pids).enumerate() {
            let last = self.undo.iter().rev().find(|it| usize::from(it.n) == n).map(|it| it.pid);
            if last.is_none() || last == Some(*pid) || *pid == 0 {
                continue;
            }
            let up = if i32::from(*value) < VALUE_MOST { 1 } else { -1 };
            let ops = [up, -up].map(|add| Op { n: n as u16, add, flags: NOWAIT });
            self.operate_as(*pid, &ops, "the last operation", actors)?;
        }
        Ok(())
    }
}

fn operate(id: i32, ops: &[Op], calls: &mut Checked, doing: &str) {
    debug_assert!(ops.len() <= OPS_MOST);
    let at = calls.put(&Op::bytes(ops));
    let call = sem::operate(id, at.0, ops.len());
    calls.call(call.nr, call.args, doing);
}

impl DynSysv for SemaphoreSets {
    fn tag(&self) -> Tag {
        TAG
    }

    fn make(&self, record: &Record) -> Result<IpcState> {
        let body: SemaphoreSetBody = record.body()?;
        if body.values.is_empty() || body.pids.len() != body.values.len() {
            return Err(Error::damaged(format!("{}: it does not add up", body.shown())));
        }
        if let Some(there) = body.told.find(IpcKind::Sem, Some(body.values.len()))? {
            return Ok(if body.is_others(&there)? { IpcState::Others(body.shown()) } else { IpcState::Found });
        }
        let name = &body.told.name;
        let creator = Creator { pid: 0, uid: name.cuid, gid: name.cgid };
        let made = sem::make_set(name.id, name.key, body.values.len(), creator)?;
        body.put_values()?;
        Ok(IpcState::Made(made))
    }

    fn finish(&self, record: &Record, state: &IpcState, actors: &mut dyn Actors) -> Result<()> {
        let body: SemaphoreSetBody = record.body()?;
        if let IpcState::Found = state {
            body.change_values(actors)?;
        }
        let others = matches!(state, IpcState::Others(_));
        body.owe(others, actors)?;
        if others {
            return Ok(());
        }
        body.touch(actors)?;
        let name = &body.told.name;
        sem::set_owner(name.id, name.mode, name.uid, name.gid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sysv::kind::NoActors;
    use crate::sysv::table::IpcTables;

    fn look(id: i32) -> String {
        let entry = IpcTables::look().find(IpcKind::Sem, id).unwrap().clone();
        format!("{:?} {:?} {:?}", entry.name, sem::values(id, entry.size).unwrap(), users(&entry).unwrap())
    }

    #[test]
    fn a_set_comes_back_with_its_numbers() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
        let (id, dead) = (0x1fff_0001, 4_000_001);
        sem::make_set(id, 77, 3, Creator { pid: 0, uid: 3, gid: 4 }).unwrap().keep();
        sem::set_owner(id, 0o640, 1, 2).unwrap();
        errno::check(clone::call_as(Creator::own(dead), &[sem::set_value(id, 1, 32767)]).unwrap(), || "").unwrap();
        let before = look(id);
        let entry = IpcTables::look().find(IpcKind::Sem, id).unwrap().clone();
        let record = super::record(&entry, true, &[]).unwrap();
        let again = || {
            let state = SemaphoreSets.make(&record).unwrap();
            SemaphoreSets.finish(&record, &state, &mut NoActors).unwrap();
            assert_eq!(look(id), before);
            state
        };
        // It is there still, and changed.
        errno::check(clone::call_as(Creator::own(dead + 1), &[sem::set_value(id, 1, 5)]).unwrap(), || "").unwrap();
        assert!(matches!(again(), IpcState::Found));
        // It is gone, and one that was made for a restore that failed goes again.
        IpcKind::Sem.remove(id).unwrap();
        drop(again());
        assert!(IpcTables::look().find(IpcKind::Sem, id).is_none());
        let IpcState::Made(made) = again() else { unreachable!() };
        made.keep();
        // Another one.
        let other_boot = Record::new(
            TAG,
            &serde_json::json!({
                "id": id, "key": 77, "mode": 0o640, "uid": 1, "gid": 2, "cuid": 3, "cgid": 4, "boot": "another",
                "is_ours": true, "values": [0, 0, 0], "pids": [0, 0, 0], "undo": [],
            }),
        )
        .unwrap();
        assert_eq!(SemaphoreSets.make(&other_boot).unwrap_err().kind(), crate::error::Kind::System(libc::EEXIST));
    }
}

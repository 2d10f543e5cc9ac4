//! Semaphore sets, semget(2): the values, the pid of the last operation on each, and the operations
//! that the kernel undoes when a process ends (SEM_UNDO).
//!
//! Only a process with that pid can set the pid of the last operation. All pids of the image are
//! free when the restore begins, so a short-lived process with the right pid sets the value. The
//! time of the last operation (IPC_STAT, sem_otime) becomes that of the restore.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::sys::clone::{self, Creator};
use crate::sys::errno;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Call;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::sysvipc::sem::{self, NOWAIT, Op, UNDO, VALUE_MOST};
use crate::sysv::kind::{Actors, DynSysv, IpcHead, IpcState};
use crate::sysv::table::{IpcEntry, is_alive};
use crate::sysv::undo::{Adjustment, series};

/// Table row.
pub struct SemaphoreSets;

/// A System V semaphore set: its values, and the operations that the kernel undoes when a process
/// ends. Body: [`SemaphoreSetBody`].
const TAG: Tag = Tag(*b"SEMS");
/// semop(2), SEMOPM: the most operations of one call.
const OPS_MOST: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
struct SemaphoreSetBody {
    #[serde(flatten)]
    head: IpcHead,
    values: Vec<u16>,
    /// The process that was the last to operate on each, or 0 for none yet.
    pids: Vec<Pid>,
    undo: Vec<Adjustment>,
}

/// The processes that were the last to operate on the semaphores of a set.
fn last_users(entry: &IpcEntry) -> Result<Vec<Pid>> {
    (0..entry.size).map(|n| sem::last_user(entry.name.id, n as u16)).collect()
}

impl SemaphoreSetBody {
    fn shown(&self) -> String {
        format!("semaphore set {} (key {:#x})", self.head.name.id, self.head.name.key)
    }

    /// Whether processes outside the image use the set, or may use it. It keeps its values then.
    fn is_others(&self, there: &IpcEntry) -> Result<bool> {
        if !self.head.is_ours {
            return Ok(true);
        }
        let waited_for = |n: usize| sem::waiting(there.name.id, n as u16);
        let mut waiting = 0;
        for n in 0..there.size {
            waiting += waited_for(n)?;
        }
        Ok(waiting > 0 || last_users(there)?.into_iter().any(is_alive))
    }

    /// Sets the values of a set that was just created. A process with the recorded pid sets each.
    fn put_values(&self) -> Result<()> {
        let id = self.head.name.id;
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

    /// Sets the values of a set that existed already. SETVAL would drop operations on it that the
    /// kernel is to undo for a process, so the values change by operations.
    fn change_values(&self, actors: &mut dyn Actors) -> Result<()> {
        let now = sem::values(self.head.name.id, self.values.len())?;
        for (n, (value, pid)) in self.values.iter().zip(&self.pids).enumerate() {
            let (from, to) = (i32::from(now[n]), i32::from(*value));
            let last = sem::last_user(self.head.name.id, n as u16)?;
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

    /// Operations by a process with this pid.
    fn operate_as(&self, pid: Pid, ops: &[Op], what: &str, actors: &mut dyn Actors) -> Result<()> {
        let n = ops.first().map_or(0, |op| op.n);
        let doing = format!("pid {pid}: {}: semaphore {n}: {what}", self.shown());
        if !actors.act(pid, &mut |calls| operate(self.head.name.id, ops, calls, &doing))? {
            let bytes = Op::bytes(ops);
            let call = sem::operate(self.head.name.id, bytes.as_ptr() as u64, ops.len());
            errno::check(clone::call_as(Creator::own(pid), &[call])?, || doing)?;
        }
        Ok(())
    }

    /// Operations that leave the value of the semaphore as it is, and `it` as the adjustment to be
    /// undone.
    fn undo_ops(&self, it: &Adjustment, others: bool) -> Vec<Op> {
        if others {
            // The operations of the process are made again, because its end has undone them.
            return series(it.n, -it.add).into_iter().filter(|op| op.flags & UNDO != 0).collect();
        }
        let op = |add: i32| Op { n: it.n, add: add as i16, flags: NOWAIT };
        let value = self.values.get(usize::from(it.n)).copied().map_or(0, i32::from);
        let mut ops = vec![op(-value)];
        ops.extend(series(it.n, -it.add));
        ops.push(op(value));
        ops
    }

    /// Gives each process its operations to be undone.
    fn restore_undo(&self, others: bool, actors: &mut dyn Actors) -> Result<()> {
        for it in &self.undo {
            let ops = self.undo_ops(it, others);
            let doing = format!("pid {}: {}: semaphore {}: an operation to be undone", it.pid, self.shown(), it.n);
            if !actors.act(it.pid, &mut |calls| operate(self.head.name.id, &ops, calls, &doing))? {
                return Err(Error::damaged(format!("{doing}: not in the tree")));
            }
        }
        Ok(())
    }

    /// Makes the recorded process the last to operate on each semaphore that [`Self::restore_undo`]
    /// has touched.
    fn restore_last_users(&self, actors: &mut dyn Actors) -> Result<()> {
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

    fn ipc_kind(&self) -> IpcKind {
        IpcKind::Sem
    }

    fn last_users(&self, entry: &IpcEntry) -> Result<Vec<Pid>> {
        last_users(entry)
    }

    fn may_read(&self, entry: &IpcEntry) -> Result<()> {
        sem::values(entry.name.id, entry.size).map(drop)
    }

    fn dump(&self, entry: &IpcEntry, is_ours: bool, adjustments: &[Adjustment]) -> Result<Record> {
        let of_it = |it: &&Adjustment| it.set == entry.name.id;
        let body = SemaphoreSetBody {
            head: IpcHead::of(entry, is_ours)?,
            values: sem::values(entry.name.id, entry.size)?,
            pids: last_users(entry)?,
            undo: adjustments.iter().filter(of_it).copied().collect(),
        };
        Record::new(TAG, &body)
    }

    fn make(&self, record: &Record) -> Result<IpcState> {
        let body: SemaphoreSetBody = record.body()?;
        if body.values.is_empty() || body.pids.len() != body.values.len() {
            return Err(Error::damaged(format!("{}: it does not add up", body.shown())));
        }
        if let Some(there) = body.head.find(IpcKind::Sem, Some(body.values.len()))? {
            return Ok(if body.is_others(&there)? { IpcState::Others(body.shown()) } else { IpcState::Found });
        }
        let name = &body.head.name;
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
        body.restore_undo(others, actors)?;
        if others {
            return Ok(());
        }
        body.restore_last_users(actors)?;
        let name = &body.head.name;
        sem::set_owner(name.id, name.mode, name.uid, name.gid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sysv::kind::NoActors;
    use crate::sysv::table::IpcTables;

    fn shown(id: i32) -> String {
        let entry = IpcTables::read().find(IpcKind::Sem, id).unwrap().clone();
        format!("{:?} {:?} {:?}", entry.name, sem::values(id, entry.size).unwrap(), last_users(&entry).unwrap())
    }

    #[test]
    fn a_set_comes_back_with_its_numbers() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
        let (id, dead) = (0x1fff_0001, 4_000_001);
        sem::make_set(id, 77, 3, Creator { pid: 0, uid: 3, gid: 4 }).unwrap().keep();
        sem::set_owner(id, 0o640, 1, 2).unwrap();
        errno::check(clone::call_as(Creator::own(dead), &[sem::set_value(id, 1, 32767)]).unwrap(), || "").unwrap();
        let before = shown(id);
        let entry = IpcTables::read().find(IpcKind::Sem, id).unwrap().clone();
        let record = SemaphoreSets.dump(&entry, true, &[]).unwrap();
        let again = || {
            let state = SemaphoreSets.make(&record).unwrap();
            SemaphoreSets.finish(&record, &state, &mut NoActors).unwrap();
            assert_eq!(shown(id), before);
            state
        };
        // It still exists, and has changed.
        errno::check(clone::call_as(Creator::own(dead + 1), &[sem::set_value(id, 1, 5)]).unwrap(), || "").unwrap();
        assert!(matches!(again(), IpcState::Found));
        // It has been removed. A failed restore removes again what it has created.
        IpcKind::Sem.remove(id).unwrap();
        drop(again());
        assert!(IpcTables::read().find(IpcKind::Sem, id).is_none());
        let IpcState::Made(made) = again() else { unreachable!() };
        made.keep();
        // Another object with its id.
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

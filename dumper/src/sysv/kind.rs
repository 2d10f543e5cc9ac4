//! A kind of System V IPC object: how it is recorded and restored, and the common beginning of all
//! records.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::remote::checked::Checked;
use crate::sys::sysvipc::CreatedIpc;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sysv::table::{IpcEntry, IpcName, IpcTables};
use crate::sysv::undo::Adjustment;

/// A kind of System V IPC object, as the table of `sysv/mod.rs` holds it.
pub trait DynSysv: Sync {
    /// The record's tag.
    fn tag(&self) -> Tag;
    /// The kind of object that it records.
    fn ipc_kind(&self) -> IpcKind;
    /// The processes that were the last to operate on `entry`.
    ///
    /// # Errors
    /// EIDRM or EINVAL: the object has been removed. EACCES: this process may not read it.
    fn last_users(&self, entry: &IpcEntry) -> Result<Vec<Pid>>;
    /// Whether the calling thread may read the object (IPC_STAT).
    fn may_read(&self, entry: &IpcEntry) -> Result<()>;
    /// The record of `entry`. `is_ours` is set if the tree is known to use it. Changes nothing.
    ///
    /// # Errors
    /// As [`DynSysv::last_users`]. EBUSY: other processes change it faster than it can be read.
    fn dump(&self, entry: &IpcEntry, is_ours: bool, adjustments: &[Adjustment]) -> Result<Record>;
    /// Creates the object with all its contents, or finds it and leaves it as it is.
    fn make(&self, record: &Record) -> Result<IpcState>;
    /// Completes it when the processes of the image exist and still have every privilege. It makes
    /// the changes that only they can make, then sets its permissions.
    fn finish(&self, record: &Record, state: &IpcState, actors: &mut dyn Actors) -> Result<()>;
}

/// What a restore found in the place of an object.
#[derive(Debug)]
pub enum IpcState {
    /// Nothing. The object was created, and is removed if the restore fails.
    Made(CreatedIpc),
    /// The object itself. It does not have the contents of the image yet.
    Found,
    /// The object itself, but other processes use it, so it keeps its contents. The string is its
    /// name.
    Others(String),
}

/// The processes that are being restored.
pub trait Actors {
    /// Makes calls in process `pid`. Returns `false` if that process is not among them.
    fn act(&mut self, pid: Pid, calls: &mut dyn FnMut(&mut Checked)) -> Result<bool>;
}

/// No process is restored yet: every pid is free, and short-lived processes make the calls.
pub struct NoActors;

impl Actors for NoActors {
    fn act(&mut self, _pid: Pid, _calls: &mut dyn FnMut(&mut Checked)) -> Result<bool> {
        Ok(false)
    }
}

/// The beginning of every kind's record.
#[derive(Debug, Serialize, Deserialize)]
pub struct IpcHead {
    /// The identity of the object.
    #[serde(flatten)]
    pub name: IpcName,
    /// The boot in which its id is unique.
    boot: String,
    /// Whether the tree is known to use it.
    pub is_ours: bool,
}

impl IpcHead {
    /// The head of the record of `entry`.
    pub fn of(entry: &IpcEntry, is_ours: bool) -> Result<Self> {
        Ok(Self { name: entry.name.clone(), boot: proc::boot_id()?, is_ours })
    }

    /// The very same object, if it still exists.
    ///
    /// # Errors
    /// EEXIST: another object has its id or its key.
    pub fn find(&self, kind: IpcKind, size: Option<usize>) -> Result<Option<IpcEntry>> {
        let IpcName { id, key, cuid, cgid, .. } = self.name;
        let in_the_way = |id: i32, letter: &str| {
            let sentence =
                format!("{kind} {} (key {key:#x}): {kind} {id} is in the way (ipcrm -{letter})", self.name.id);
            Error::os(sentence, libc::EEXIST)
        };
        let letter = if kind == IpcKind::Sem { "s" } else { "q" };
        if let Some(found) = IpcTables::read().find(kind, id) {
            let same = (found.name.key, found.name.cuid, found.name.cgid) == (key, cuid, cgid);
            if !same || size.is_some_and(|size| size != found.size) || proc::boot_id()? != self.boot {
                return Err(in_the_way(id, letter));
            }
            return Ok(Some(found.clone()));
        }
        kind.with_key(key).map_or(Ok(None), |other| Err(in_the_way(other, letter)))
    }
}

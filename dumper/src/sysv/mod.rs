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

pub mod kind;
pub mod message_queues;
pub mod semaphores;
pub mod table;
pub mod undo;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::sysvipc::{self, IpcKind};
use crate::sysv::kind::DynSysv;
use crate::sysv::table::{IpcEntry, IpcName, IpcTables};

/// Every kind.
pub const KINDS: &[&dyn DynSysv] = &[&semaphores::SemaphoreSets, &message_queues::MessageQueues];

/// What an image tells of any of them.
#[derive(Debug, Serialize, Deserialize)]
struct IpcHead {
    #[serde(flatten)]
    name: IpcName,
    /// The boot in which its id is its own.
    boot: String,
    /// The tree is known to use it.
    is_ours: bool,
}

impl IpcHead {
    fn of(entry: &IpcEntry, is_ours: bool) -> Result<Self> {
        Ok(Self { name: entry.name.clone(), boot: sysvipc::boot()?, is_ours })
    }

    /// The very same one, if it is still there.
    ///
    /// # Errors
    /// EEXIST: another one has its id or its key.
    fn find(&self, kind: IpcKind, size: Option<usize>) -> Result<Option<IpcEntry>> {
        let IpcName { id, key, cuid, cgid, .. } = self.name;
        let in_the_way = |id: i32, letter: &str| {
            let told = format!("{kind} {} (key {key:#x}): {kind} {id} is in the way (ipcrm -{letter})", self.name.id);
            Error::os(told, libc::EEXIST)
        };
        let letter = if kind == IpcKind::Sem { "s" } else { "q" };
        if let Some(there) = IpcTables::look().find(kind, id) {
            let same = (there.name.key, there.name.cuid, there.name.cgid) == (key, cuid, cgid);
            if !same || size.is_some_and(|size| size != there.size) || sysvipc::boot()? != self.boot {
                return Err(in_the_way(id, letter));
            }
            return Ok(Some(there.clone()));
        }
        kind.with_key(key).map_or(Ok(None), |other| Err(in_the_way(other, letter)))
    }
}

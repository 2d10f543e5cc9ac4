//! System V shared memory, semaphores and message queues, sysvipc(7), in the daemon's own ipc
//! namespace. An object has an id that the kernel gives only once within one boot, and lives
//! without any process.

pub mod msg;
pub mod sem;
pub mod shm;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Doing, Error, Result};
use crate::sys::clone::{self, Creator};
use crate::sys::errno;
use crate::sys::remote::batch::Call;

/// The three sorts of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpcKind {
    /// A segment of shared memory.
    Shm,
    /// A set of semaphores.
    Sem,
    /// A message queue.
    Msg,
}

impl fmt::Display for IpcKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpcKind::Shm => "shared memory",
            IpcKind::Sem => "semaphore set",
            IpcKind::Msg => "message queue",
        })
    }
}

impl IpcKind {
    fn next_id(self) -> &'static str {
        match self {
            IpcKind::Shm => "/proc/sys/kernel/shm_next_id",
            IpcKind::Sem => "/proc/sys/kernel/sem_next_id",
            IpcKind::Msg => "/proc/sys/kernel/msg_next_id",
        }
    }

    /// IPC_RMID.
    pub fn remove(self, id: i32) -> Result<()> {
        // SAFETY: the command takes no memory.
        let got = unsafe {
            match self {
                IpcKind::Shm => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                IpcKind::Sem => libc::semctl(id, 0, libc::IPC_RMID),
                IpcKind::Msg => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            }
        };
        Errno::result(got).map(drop).doing(|| format!("IPC_RMID of {self} {id}"))
    }

    /// The id of the object with this key, or `None` if there is none.
    pub fn with_key(self, key: i32) -> Option<i32> {
        // SAFETY: no memory is passed.
        let got = unsafe {
            match self {
                IpcKind::Shm => libc::shmget(key, 0, 0),
                IpcKind::Sem => libc::semget(key, 0, 0),
                IpcKind::Msg => libc::msgget(key, 0),
            }
        };
        (key != libc::IPC_PRIVATE && got != -1).then_some(got)
    }

    /// Uses up the id that was set for the next object, because it cannot be unset.
    fn consume_next_id(self) {
        // SAFETY: no memory is passed.
        let spent = unsafe {
            match self {
                IpcKind::Shm => libc::shmget(libc::IPC_PRIVATE, 1, libc::IPC_CREAT | 0o600),
                IpcKind::Sem => libc::semget(libc::IPC_PRIVATE, 1, libc::IPC_CREAT | 0o600),
                IpcKind::Msg => libc::msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600),
            }
        };
        let _ = self.remove(spent);
    }
}

/// How often another process may take the id that this daemon has set.
const TRIES: usize = 30;

/// Makes an object with a chosen id (kernel.*_next_id, CONFIG_CHECKPOINT_RESTORE) by `call`, which
/// has IPC_CREAT and IPC_EXCL.
///
/// # Errors
/// EBUSY: the id is taken, or other processes make so many objects that this daemon never gets it.
fn make(kind: IpcKind, id: i32, creator: Creator, call: &Call, doing: impl Fn() -> String) -> Result<CreatedIpc> {
    // The id is set for the namespace: the next object that any process makes gets it.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let next = kind.next_id();
    for _ in 0..TRIES {
        std::fs::write(next, id.to_string()).doing(|| format!("{}: {next}", doing()))?;
        let got = clone::call_as(creator, std::slice::from_ref(call))?;
        match errno::errno(got) {
            None if got == i64::from(id) => return Ok(CreatedIpc { kind, id, keep: false }),
            // Another process was quicker, perhaps the restore of another daemon. The two must get
            // out of step.
            None => {
                let _ = kind.remove(got as i32);
                std::thread::sleep(Duration::from_micros(100 + u64::from(std::process::id()) * 37 % 900));
            }
            Some(failed) => {
                kind.consume_next_id();
                return Err(Error::os(doing(), failed));
            }
        }
    }
    Err(Error::os(doing(), libc::EBUSY))
}

/// An object that was made for a restore. Drop removes it unless it is kept.
#[derive(Debug)]
pub struct CreatedIpc {
    kind: IpcKind,
    id: i32,
    keep: bool,
}

impl CreatedIpc {
    /// The object stays.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for CreatedIpc {
    fn drop(&mut self) {
        if !self.keep {
            let _ = self.kind.remove(self.id);
        }
    }
}

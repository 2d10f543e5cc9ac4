//! System V shared memory, semaphores and message queues, sysvipc(7), in the daemon's own ipc namespace: what has a number of its own and
//! lives without anybody.

pub mod msg;
pub mod sem;
pub mod shm;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::clone::{self, Creator};
use crate::sys::remote::batch::Call;
use crate::sys::{errno, proc};

/// What there is.
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
        if got == -1 { Err(Error::last_os(format_args!("IPC_RMID of {self} {id}"))) } else { Ok(()) }
    }

    /// The id of the one with this key; `None` if there is none.
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

    /// What was set for the next one can only be used up.
    fn forget_next_id(self) {
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

/// Within one boot no id is given twice: the boot that this is.
pub fn boot() -> Result<String> {
    Ok(proc::read_text("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// How often somebody else may take the number that was meant for us.
const TRIES: usize = 30;

/// Makes one with a chosen id (kernel.*_next_id, CONFIG_CHECKPOINT_RESTORE) by `call`, with IPC_CREAT and IPC_EXCL in it.
///
/// # Errors
/// EBUSY: the id is taken, or others make so many that none of ours gets it.
fn make(kind: IpcKind, id: i32, creator: Creator, call: &Call, doing: impl Fn() -> String) -> Result<CreatedIpc> {
    // The number is of the namespace: whoever makes one next has it.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let next = kind.next_id();
    for _ in 0..TRIES {
        std::fs::write(next, id.to_string()).map_err(|error| Error::io(format_args!("{}: {next}", doing()), &error))?;
        let got = clone::call_as(creator, std::slice::from_ref(call))?;
        match errno::errno(got) {
            None if got == i64::from(id) => return Ok(CreatedIpc { kind, id, keep: false }),
            // Somebody was quicker to take the number: perhaps another restore, by another daemon. They must get out of step.
            None => {
                let _ = kind.remove(got as i32);
                std::thread::sleep(Duration::from_micros(100 + u64::from(std::process::id()) * 37 % 900));
            }
            Some(failed) => {
                kind.forget_next_id();
                return Err(Error::os(doing(), failed));
            }
        }
    }
    Err(Error::os(doing(), libc::EBUSY))
}

/// One that was made for a restore; removed on Drop until it is kept.
#[derive(Debug)]
pub struct CreatedIpc {
    kind: IpcKind,
    id: i32,
    keep: bool,
}

impl CreatedIpc {
    /// It stays.
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

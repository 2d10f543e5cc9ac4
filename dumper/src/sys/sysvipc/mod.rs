//! System V shared memory, semaphores and message queues, sysvipc(7), in the daemon's own ipc
//! namespace. An object has an id that the kernel gives only once within one boot, and lives
//! without any process.

pub mod ipc_kind;
pub mod msg;
mod removal;
pub mod sem;
pub mod shm;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Doing, Error, Result};
use crate::sys::clone::{self, Creator};
use crate::sys::errno;
use crate::sys::remote::batch::Call;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::sysvipc::removal::RemovalWatchdog;

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
    let watchdog = RemovalWatchdog::start(kind)?;
    for _ in 0..TRIES {
        watchdog.id_is_set()?;
        std::fs::write(next, id.to_string()).doing(|| format!("{}: {next}", doing()))?;
        let got = clone::call_as_seen(creator, std::slice::from_ref(call), Some(watchdog.pipe()));
        let got = got.inspect_err(|_| kind.remove_raw(kind.spend_next_id()))?;
        match errno::errno(got) {
            None if got == i64::from(id) => return Ok(CreatedIpc { kind, id, keep: false, watchdog }),
            // Another process was quicker, perhaps the restore of another daemon. The two must get
            // out of step.
            None => {
                let _ = kind.remove(got as i32);
                watchdog.forget()?;
                std::thread::sleep(Duration::from_micros(100 + u64::from(std::process::id()) * 37 % 900));
            }
            Some(failed) => {
                kind.remove_raw(kind.spend_next_id());
                return Err(Error::os(doing(), failed));
            }
        }
    }
    Err(Error::os(doing(), libc::EBUSY))
}

/// An object that was made for a restore. Drop removes it unless it is kept. If this daemon is
/// killed before [`CreatedIpc::outlive_daemon`], a watchdog removes it.
#[derive(Debug)]
pub struct CreatedIpc {
    kind: IpcKind,
    id: i32,
    keep: bool,
    watchdog: RemovalWatchdog,
}

impl CreatedIpc {
    /// The object stays if this daemon is killed, because processes that use it are about to run.
    pub fn outlive_daemon(&self) -> Result<()> {
        self.watchdog.forget()
    }

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

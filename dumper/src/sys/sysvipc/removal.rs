//! A small process that removes an object of System V, if this daemon is killed before the restore
//! that made it is complete. Such an object lives without any process.

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::error::{Doing, Result};
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::watchdog::{Watchdog, hear};

/// Its name in `ps`.
const NAME: &CStr = c"ckptfs-remove";

/// There is no object.
const NOTHING: i64 = -1;
/// The id of the next object is set, and perhaps not used yet.
const ID_IS_SET: i64 = i64::MIN;

/// Removes the object whose id it was told last. Drop ends it without that.
#[derive(Debug)]
pub(super) struct RemovalWatchdog(Watchdog);

impl RemovalWatchdog {
    /// Starts it. There is no object yet.
    pub(super) fn start(kind: IpcKind) -> Result<Self> {
        // SAFETY: `watch` makes only raw system calls.
        let started = unsafe { Watchdog::start(NAME, None, |pipe| watch(kind, pipe)) };
        started.doing(|| format!("starting the watchdog of a {kind}")).map(Self)
    }

    /// Tells it that the id of the next object is being set.
    pub(super) fn id_is_set(&self) -> Result<()> {
        self.tell(ID_IS_SET)
    }

    /// Tells it that there is no object, or that the object stays.
    pub(super) fn forget(&self) -> Result<()> {
        self.tell(NOTHING)
    }

    /// Where the process that makes the object writes the raw result of the call, 8 bytes. A
    /// negative one means that there is no object.
    pub(super) fn pipe(&self) -> RawFd {
        self.0.pipe()
    }

    fn tell(&self, what: i64) -> Result<()> {
        self.0.tell(&what.to_le_bytes(), || "telling a watchdog".to_owned())
    }
}

impl Drop for RemovalWatchdog {
    fn drop(&mut self) {
        // If it is gone, it removes nothing.
        let _ = self.forget();
    }
}

fn watch(kind: IpcKind, pipe: RawFd) {
    let mut message = NOTHING.to_le_bytes();
    while hear(pipe, &mut message) {}
    let id = match i64::from_le_bytes(message) {
        ID_IS_SET => kind.spend_next_id(),
        told => told,
    };
    if id >= 0 {
        kind.remove_raw(id);
    }
}

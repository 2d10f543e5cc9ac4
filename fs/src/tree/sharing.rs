//! Which callers share an instant.
//!
//! A caller shares the instants that it holds: by a descriptor in its table, or by a walk through
//! the folder of the process. Any other open takes the instant of its own open, so that no reader
//! gives an older instant to the readers after it.
//!
//! The kernel caches one content of an inode, so an inode shows one instant while it is open. A
//! lookup leads a caller that must not share it to an inode of its own: cp(1) compares the inode of
//! its stat(2) with that of its open(2). If another caller was quicker in between, the open gets
//! ESTALE, and the kernel looks the path up once more (LOOKUP_REVAL in `do_filp_open`, fs/namei.c).

use std::collections::HashMap;

use ckptfs_dumper::Pid;
use parking_lot::Mutex;

use crate::node::{ApartId, Of};
use crate::process::{self, ProcId};

/// Returns the inode numbers of this mount that a thread has open.
pub type HeldInodes = Box<dyn Fn(Pid) -> Vec<u64> + Send + Sync>;

/// The instants that are promised to callers, and the way to find out what a caller holds.
pub struct Sharing {
    held: HeldInodes,
    /// A leaf lock.
    reserved: Mutex<Reservations>,
}

/// The instants that callers were sent to and have not opened yet.
#[derive(Default)]
struct Reservations {
    last: u64,
    /// By the process that they show and the process that reads. The reader is `None` if it is in a
    /// pid namespace outside the daemon's.
    of: HashMap<(ProcId, Option<Pid>), ApartId>,
}

impl Sharing {
    /// The inode numbers that `thread` has open.
    pub(super) fn held(&self, thread: Pid) -> Vec<u64> {
        (self.held)(thread)
    }

    /// Without reservations. `held` lists what a thread has open.
    pub fn new(held: HeldInodes) -> Sharing {
        Sharing { held, reserved: Mutex::default() }
    }

    /// Promises `reader` an instant of `of` that no other caller has open.
    pub(super) fn reserve(&self, of: ProcId, reader: Option<Pid>) -> ApartId {
        let is_alive = |reader: &Option<Pid>| reader.is_none_or(|pid| process::process_of_thread(pid).is_some());
        let mut reserved = self.reserved.lock();
        reserved.of.retain(|(_, reader), _| is_alive(reader));
        reserved.last += 1;
        let apart = ApartId { number: reserved.last, of };
        reserved.of.insert((of, reader), apart);
        apart
    }

    /// The instant of `of` that is promised to `reader`.
    pub(super) fn reserved(&self, of: ProcId, reader: Option<Pid>) -> Option<ApartId> {
        self.reserved.lock().of.get(&(of, reader)).copied()
    }

    /// Whether any instant of `of` is promised to a caller.
    pub(super) fn has_promised(&self, of: ProcId) -> bool {
        self.reserved.lock().of.keys().any(|(promised, _)| *promised == of)
    }

    /// Whether the instant is promised to a caller.
    pub(super) fn is_reserved(&self, apart: ApartId) -> bool {
        self.reserved.lock().of.values().any(|reserved| *reserved == apart)
    }

    /// The promised instant is being opened.
    pub(super) fn redeem(&self, of: Of) {
        if let Of::Apart(apart) = of {
            self.reserved.lock().of.retain(|_, reserved| *reserved != apart);
        }
    }
}

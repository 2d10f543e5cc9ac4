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

use std::collections::{HashMap, HashSet};

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
    /// By the process that they show and the thread that reads. The thread is 0 if it is in a pid
    /// namespace outside the daemon's. Each thread has a promise of its own: of several threads of
    /// one process, none takes what another one was sent to.
    of: HashMap<(ProcId, Pid), ApartId>,
    /// How many promises are looked through for those of threads and processes that have ended.
    prune_at: usize,
}

/// How many promises are kept without a look at who is alive.
const FEW: usize = 64;

impl Sharing {
    /// The inode numbers that `thread` has open.
    pub(super) fn held(&self, thread: Pid) -> Vec<u64> {
        (self.held)(thread)
    }

    /// Without reservations. `held` lists what a thread has open.
    pub fn new(held: HeldInodes) -> Sharing {
        Sharing { held, reserved: Mutex::default() }
    }

    /// Promises `thread` an instant of `of` that no other caller has open.
    pub(super) fn reserve(&self, of: ProcId, thread: Pid) -> ApartId {
        self.prune();
        let mut reserved = self.reserved.lock();
        reserved.last += 1;
        let apart = ApartId { number: reserved.last, of };
        reserved.of.insert((of, thread), apart);
        apart
    }

    /// Drops the promises of threads and processes that have ended, once there are many. Who is
    /// alive is read from /proc, outside of the lock.
    fn prune(&self) {
        let all: Vec<(ProcId, Pid)> = {
            let reserved = self.reserved.lock();
            if reserved.of.len() < reserved.prune_at {
                return;
            }
            reserved.of.keys().copied().collect()
        };
        let reads = |thread: Pid| thread == 0 || process::process_of_thread(thread).is_some();
        let is_shown = |of: ProcId| of == ProcId::CONTAINER || of.is_alive();
        let is_dead = |(of, thread): &(ProcId, Pid)| !reads(*thread) || !is_shown(*of);
        let dead: HashSet<(ProcId, Pid)> = all.into_iter().filter(is_dead).collect();
        let mut reserved = self.reserved.lock();
        reserved.of.retain(|key, _| !dead.contains(key));
        reserved.prune_at = FEW + 2 * reserved.of.len();
    }

    /// The instant of `of` that is promised to `thread`.
    pub(super) fn reserved(&self, of: ProcId, thread: Pid) -> Option<ApartId> {
        self.reserved.lock().of.get(&(of, thread)).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_promise_of_its_own() {
        let sharing = Sharing::new(Box::new(|_| Vec::new()));
        let of = ProcId::CONTAINER;
        let main = std::process::id() as Pid;
        let own = sharing.reserve(of, main);
        let other = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let thread = nix::unistd::gettid().as_raw();
                let promised = sharing.reserve(of, thread);
                (promised, sharing.reserved(of, thread))
            });
            thread.join().ok()
        });
        assert!(other.is_some_and(|(promised, kept)| kept == Some(promised) && promised != own));
        assert_eq!(sharing.reserved(of, main), Some(own));
    }

    #[test]
    fn promises_to_the_dead_are_dropped() {
        let sharing = Sharing::new(Box::new(|_| Vec::new()));
        let ended = ProcId::ended(std::process::id() as Pid);
        for thread in 0..1000 {
            sharing.reserve(ended, -thread);
        }
        assert!(sharing.reserved.lock().of.len() <= FEW + 1);
    }
}

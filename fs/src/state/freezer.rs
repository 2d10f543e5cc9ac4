//! `freeze`: trees of processes that are held stopped, as cgroup v2 does it for groups.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ckptfs_dumper::{Context, Error, Pid, Result};
use parking_lot::{Condvar, Mutex};

use crate::process::ProcId;
use crate::state::quota::{Bounds, Place, Quota, USERS};
use crate::state::tracers::{Lease, Tracers};

/// The trees that are held.
pub struct Freezer {
    tracers: Arc<Tracers>,
    /// A leaf lock: trees are stopped and thawed outside of it.
    state: Mutex<FreezerState>,
    changed: Condvar,
    /// How many trees each user holds.
    trees: Arc<Quota>,
}

#[derive(Default)]
struct FreezerState {
    /// The held trees.
    held: HashMap<ProcId, Hold>,
    /// Trees that are being stopped or thawed. The next write to their `freeze` waits.
    busy: HashSet<ProcId>,
}

/// A tree that is held.
struct Hold {
    lease: Lease,
    since: Instant,
    /// What it takes of what its user may have.
    #[expect(dead_code, reason = "held for its Drop")]
    place: Place,
}

/// How many trees one user other than root may hold at a time. Each has a thread of the daemon.
const MOST_OF_A_USER: u64 = 32;

impl Freezer {
    /// No tree is held.
    pub fn new(tracers: Arc<Tracers>) -> Freezer {
        Freezer { tracers, state: Mutex::default(), changed: Condvar::new(), trees: Quota::new() }
    }

    /// The contents of the file `freeze`.
    pub fn text(&self, id: ProcId) -> &'static str {
        if self.state.lock().held.contains_key(&id) { "1\n" } else { "0\n" }
    }

    /// The roots of the held trees, ascending.
    pub fn held(&self) -> Vec<ProcId> {
        let mut ids: Vec<ProcId> = self.state.lock().held.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The roots of the held trees, and since when each is held.
    pub fn held_since(&self) -> Vec<(ProcId, Instant)> {
        self.state.lock().held.iter().map(|(id, hold)| (*id, hold.since)).collect()
    }

    /// Stops the tree and keeps it stopped, or thaws it. Blocks until that is done. `requester` is
    /// the process that wrote to `freeze`, and `uid` its user.
    ///
    /// # Errors
    /// EMFILE: the user holds too many trees already.
    pub fn set(&self, id: ProcId, frozen: bool, requester: Option<Pid>, uid: u32) -> Result<()> {
        let turn = self.turn(id);
        let held = self.state.lock().held.remove(&id);
        let (result, keep) = match (frozen, held) {
            (true, Some(held)) => (Ok(()), Some(held)),
            (true, None) => {
                let full = |_| {
                    Error::os(
                        format!(
                            "pid {}: user {uid} holds {MOST_OF_A_USER} trees already, or all users {USERS} times as many",
                            id.pid
                        ),
                        libc::EMFILE,
                    )
                };
                let place = self.trees.take(Bounds::of_user(MOST_OF_A_USER), uid, 1).map_err(full)?;
                let lease = self.tracers.lease(id).on(|| format!("pid {}", id.pid))?;
                match lease.acting_for(uid).freeze(requester) {
                    Ok(()) => (Ok(()), Some(Hold { lease, since: Instant::now(), place })),
                    Err(error) => (Err(error), None),
                }
            }
            (false, None) => (Ok(()), None),
            (false, Some(hold)) => match hold.lease.thaw() {
                Ok(()) => (Ok(()), None),
                // The tree is still stopped, so it stays held.
                Err(error) => (Err(error), Some(hold)),
            },
        };
        if let Some(held) = keep {
            self.state.lock().held.insert(id, held);
        }
        drop(turn);
        result
    }

    /// Releases trees with a root that has ended.
    pub fn forget_dead(&self) {
        let held: Vec<ProcId> = self.state.lock().held.keys().copied().collect();
        self.forget(held.into_iter().filter(|id| !id.is_alive()));
    }

    /// Thaws all held trees.
    pub fn thaw_all(&self) {
        let held: Vec<ProcId> = self.state.lock().held.keys().copied().collect();
        self.forget(held.into_iter());
    }

    /// Releases these trees and thaws the rest of them.
    pub fn forget(&self, ids: impl Iterator<Item = ProcId>) {
        for id in ids {
            let hold = self.state.lock().held.remove(&id);
            // A snapshot may keep the tracer for longer. Dead tracees need the thaw, or their
            // parent cannot reap them.
            if let Some(Err(error)) = hold.map(|hold| hold.lease.thaw()) {
                log::debug!("thawing pid {}: {error}", id.pid);
            }
        }
    }

    /// Waits until no other thread stops or thaws the tree.
    fn turn(&self, id: ProcId) -> FreezerTurn<'_> {
        let mut state = self.state.lock();
        while !state.busy.insert(id) {
            self.changed.wait(&mut state);
        }
        FreezerTurn { freezer: self, id }
    }
}

/// The right to stop or thaw one tree.
struct FreezerTurn<'a> {
    freezer: &'a Freezer,
    id: ProcId,
}

impl Drop for FreezerTurn<'_> {
    fn drop(&mut self) {
        self.freezer.state.lock().busy.remove(&self.id);
        self.freezer.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use crate::testing::{Sleeper, options};

    #[test]
    fn nothing_is_frozen_to_begin_with_and_thawing_it_is_fine() {
        let victim = Sleeper::new();
        let id = crate::process::Process::read(victim.pid()).unwrap().id;
        let freezer = Freezer::new(Tracers::new(options(), None));
        freezer.set(id, false, None, 0).unwrap();
        assert_eq!(freezer.text(id), "0\n");
        assert!(freezer.held().is_empty());
    }
}

//! One tracer per tree, shared by its users: open snapshots and a freeze.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use ckptfs_dumper::{CgroupFreezer, Options, Pid, Result, Target, Tracer};
use parking_lot::Mutex;

use crate::process::caller::Viewer;
use crate::process::{self, ProcId};

/// The tracers in use.
///
/// A tree has one tracer at a time, because a tracee has one. A second tracer could neither freeze
/// the tree nor reap the snapshot child of the first.
pub struct Tracers {
    options: Options,
    /// Freezes the cgroup of the container, if the container is one.
    freezer: Option<CgroupFreezer>,
    /// The tracers and how many leases each has. A leaf lock: a tracer is started under it (which
    /// touches no process) and dropped outside of it.
    table: Mutex<HashMap<ProcId, (Tracer, usize)>>,
}

impl Tracers {
    /// A table without tracers. Each tracer is started with `options`, and with the cgroup freezer
    /// of the container, if it is a cgroup.
    pub fn new(options: Options, freezer: Option<CgroupFreezer>) -> Arc<Tracers> {
        Arc::new(Tracers { options, freezer, table: Mutex::default() })
    }

    /// The tracer of the tree rooted at `id`, for as long as the lease lives.
    pub fn lease(self: &Arc<Self>, id: ProcId) -> Result<Lease> {
        self.lease_of(id, || Target::tree(id.pid))
    }

    /// The tracer with the key `id`. If there is none yet, one is started for `target`.
    pub fn lease_of(self: &Arc<Self>, id: ProcId, target: impl FnOnce() -> Target) -> Result<Lease> {
        let mut table = self.table.lock();
        let tracer = match table.get_mut(&id) {
            Some((tracer, users)) => {
                *users += 1;
                tracer.clone()
            }
            None => {
                let tracer = Tracer::new(target(), self.options.clone(), self.freezer.clone());
                table.insert(id, (tracer.clone(), 1));
                tracer
            }
        };
        Ok(Lease { tracers: Arc::clone(self), id, tracer })
    }
}

impl Tracers {
    /// Whether a tracer may freeze the cgroup of the container for the user `uid`. All processes in
    /// it stand still then, so to another user than root they must belong.
    fn freezes_for(&self, uid: u32) -> bool {
        let Some(freezer) = &self.freezer else { return true };
        let is_its_own = |pid: Pid| process::owner(pid).is_none_or(|owner| owner.0 == uid);
        Viewer::of(uid) == Viewer::All || freezer.processes().is_ok_and(|pids| pids.into_iter().all(is_its_own))
    }
}

impl Lease {
    /// The tracer, for a request of the user `uid`.
    pub fn acting_for(&self, uid: u32) -> Tracer {
        if self.tracers.freezes_for(uid) { self.tracer.clone() } else { self.tracer.without_cgroup_freeze() }
    }
}

/// The use of a tracer. Dropping the last one ends it.
pub struct Lease {
    tracers: Arc<Tracers>,
    id: ProcId,
    tracer: Tracer,
}

impl Deref for Lease {
    type Target = Tracer;
    fn deref(&self) -> &Tracer {
        &self.tracer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.tracers.table.lock();
        let Some((_, users)) = table.get_mut(&self.id) else { return };
        *users -= 1;
        let last = (*users == 0).then(|| table.remove(&self.id));
        drop(table);
        drop(last);
    }
}

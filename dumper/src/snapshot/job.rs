//! The job of a tracer thread.

use std::sync::Arc;

use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::{CgroupFreezer, Turn};
use crate::freeze::target::Target;
use crate::options::Options;
use crate::sys::pid::Pid;

/// What a tracer thread works on.
#[derive(Clone)]
pub struct TracerJob {
    /// The processes that it stops.
    pub target: Arc<Target>,
    /// The process that waits for the work, if it is known.
    pub reader: Option<Pid>,
    /// The options of the mount.
    pub options: Arc<Options>,
    /// Freezes the cgroup before its tasks are stopped, if the target is in one.
    pub freezer: Option<CgroupFreezer>,
    /// What it may do to the cgroup: freeze it all, or stop single tasks.
    pub turn: Turn,
}

impl TracerJob {
    /// The limit of a stop that begins now.
    pub fn bound(&self) -> StopBound {
        StopBound::new(self.options.freeze_timeout, self.reader)
    }

    /// The cgroup of the target, and what may be done to it.
    pub fn cgroup(&self) -> Option<(&CgroupFreezer, Turn)> {
        self.freezer.as_ref().map(|freezer| (freezer, self.turn))
    }
}

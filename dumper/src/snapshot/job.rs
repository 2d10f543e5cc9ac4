//! The job of a tracer thread.

use std::sync::Arc;

use crate::freeze::bound::StopBound;
use crate::freeze::cgroup::CgroupFreezer;
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
    /// Freezes the cgroup before its tasks are stopped, if the target is a cgroup.
    pub freezer: Option<CgroupFreezer>,
}

impl TracerJob {
    /// The limit of a stop that begins now.
    pub fn bound(&self) -> StopBound {
        StopBound::new(self.options.freeze_timeout, self.reader)
    }
}

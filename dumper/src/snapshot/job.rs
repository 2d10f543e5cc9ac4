//! The job of a tracer thread.

use std::sync::Arc;

use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::target::Target;
use crate::options::Options;

/// What a tracer thread works on.
#[derive(Clone)]
pub struct TracerJob {
    /// The processes that it stops.
    pub target: Arc<Target>,
    /// The options of the mount.
    pub options: Arc<Options>,
    /// Freezes the cgroup before its tasks are stopped, if the target is a cgroup.
    pub freezer: Option<CgroupFreezer>,
}

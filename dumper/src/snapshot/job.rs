//! What a tracer thread is given.

use std::sync::Arc;

use crate::freeze::cgroup::CgroupFreezer;
use crate::freeze::target::Target;
use crate::options::Options;

/// What a tracer thread works on.
#[derive(Clone)]
pub struct TracerJob {
    /// The processes that it stops.
    pub target: Arc<Target>,
    /// What the mount has decided.
    pub options: Arc<Options>,
    /// Freezes the cgroup before its tasks are stopped, where the target is one.
    pub freezer: Option<CgroupFreezer>,
}

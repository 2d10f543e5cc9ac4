//! What a mount decides once for all its dumps and restores: plain data.

use std::time::Duration;

use crate::freeze::cgroup::CgroupFreezer;

/// The choice that a mount makes for its restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// A file that has become shorter than where the process stood in it, or than what it had mapped of it, is told of; another
    /// change is none of ours: logs grow.
    #[default]
    Warn,
    /// Any other size or time of last change refuses the restore (ESTALE).
    Refuse,
}

/// What a mount decides once for all its dumps and restores.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long a tree may take to stop before everybody is thawed again (EBUSY).
    pub freeze_timeout: Duration,
    /// Freezes the cgroup first, where the container is one.
    pub cgroup: Option<CgroupFreezer>,
    /// What to do where a process outside of the tree holds an end of its pipes: find the same pipe again at the restore, or refuse.
    pub keep_external_pipes: bool,
    /// Whether semaphores and message queues that nobody alive has used are in the image, where they are of the tree's users and time.
    pub owned_sysv_ipc: bool,
    /// What a restore makes of files that have changed.
    pub changed_files: ChangedFiles,
}

/// What a snapshot is to cost whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotUse {
    /// It is read and gone: where no copy-on-write child can be made, the tree stays stopped until then.
    Stream,
    /// It is kept, whatever becomes of the tree: of children only, or not at all.
    Pin,
}

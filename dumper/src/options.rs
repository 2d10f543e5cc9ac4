//! What a mount decides once for all its dumps and restores: plain data.

use std::time::Duration;

/// What a restore does about a file that has changed since the dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// Warns about a file that is now shorter than the process's position in it, or than what the
    /// process had mapped of it. Other changes are ignored: logs grow.
    #[default]
    Warn,
    /// Refuses the restore (ESTALE) if a size or a time of last change differs.
    Refuse,
}

/// What a mount decides once for all its dumps and restores.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a tree may take to stop. After that all of it is resumed (EBUSY).
    pub freeze_timeout: Duration,
    /// Whether a pipe with an end outside of the tree is kept: the restore then finds the same pipe
    /// again. Otherwise the dump refuses it.
    pub keep_external_pipes: bool,
    /// Whether the image holds semaphores and message queues that no living process has used, where
    /// they are of the tree's users and time.
    pub owned_sysv_ipc: bool,
    /// What a restore does about files that have changed.
    pub changed_files: ChangedFiles,
}

impl Default for Options {
    /// What a mount has without options.
    fn default() -> Self {
        Self {
            freeze_timeout: Duration::from_secs(5),
            keep_external_pipes: false,
            owned_sysv_ipc: false,
            changed_files: ChangedFiles::default(),
        }
    }
}

/// What a snapshot is for, and so what it may cost the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotUse {
    /// Read once, then dropped. Where no copy-on-write child can be made, the tree stays stopped
    /// until then.
    Stream,
    /// Kept, whatever happens to the tree. It is made of copy-on-write children, or not at all.
    Pin,
}

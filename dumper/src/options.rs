//! Decisions of a mount for all its dumps and restores: plain data.

use std::time::Duration;

/// What a restore does about a file that has changed since the dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// Warns about a file that is now shorter than the process's position in it, or than the part
    /// of it that the process had mapped. Other changes are ignored, because logs grow.
    #[default]
    Warn,
    /// Refuses the restore (ESTALE) if a size or a time of last change differs.
    Refuse,
}

/// Decisions of a mount for all its dumps and restores.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a tree may take to stop. After that all of it is resumed (EBUSY).
    pub freeze_timeout: Duration,
    /// Whether a pipe with an end outside the tree is kept. The restore then finds the same pipe
    /// again. Otherwise the dump refuses it.
    pub keep_external_pipes: bool,
    /// Whether the image holds semaphores and message queues that no living process has used, if
    /// they belong to the tree's users and its time.
    pub owned_sysv_ipc: bool,
    /// What a restore does about files that have changed.
    pub changed_files: ChangedFiles,
}

impl Default for Options {
    /// The options of a mount without any options.
    fn default() -> Self {
        Self {
            freeze_timeout: Duration::from_secs(5),
            keep_external_pipes: false,
            owned_sysv_ipc: false,
            changed_files: ChangedFiles::default(),
        }
    }
}

/// The purpose of a snapshot, which decides what it may cost the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotUse {
    /// Read once, then dropped. If no copy-on-write child can be made, the tree stays stopped until
    /// then.
    Stream,
    /// Kept, whatever happens to the tree. It must be made of copy-on-write children.
    Pin,
}

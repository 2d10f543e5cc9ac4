//! Decisions of a mount for all its dumps and restores: plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::key::Key;

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

/// What a restore does about a pipe that a process outside the tree held, if no process holds it
/// any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalPipes {
    /// Refuses the restore (ENOENT). The sentence names the pipe and these options.
    #[default]
    Refuse,
    /// Puts /dev/null in its place.
    Null,
    /// Makes a new pipe, without the end outside: a read gets end of file, and a write EPIPE.
    New,
}

/// What a restore does about CLOCK_MONOTONIC and CLOCK_BOOTTIME, which count from the boot of the
/// machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockRule {
    /// The tree gets a time namespace, in which they go on from the image, if they would go back
    /// otherwise.
    #[default]
    Auto,
    /// The tree always gets one: the time that it did not exist is not counted.
    Continue,
    /// The tree has the clocks of the machine, wherever they are.
    Host,
    /// The restore is refused if they would go back.
    Refuse,
}

/// What a restore does about a terminal whose other end is outside the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TerminalRule {
    /// Opens it again if it is provably the same terminal as at the dump, and refuses the restore
    /// (ENOENT) otherwise. The sentence says what differs.
    #[default]
    Same,
    /// Refuses every restore with such a terminal.
    Refuse,
    /// Puts /dev/null in its place. A session leader gets no controlling terminal.
    Null,
}

/// Decisions for a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// What happens about files that have changed.
    pub changed_files: ChangedFiles,
    /// What happens about pipes that a process outside the tree held, and that are gone.
    pub external_pipes: ExternalPipes,
    /// The files that take the place of such pipes, by the number of the pipe: 1234 for
    /// `pipe:[1234]`.
    pub pipes: BTreeMap<u64, PathBuf>,
    /// What happens about the clocks.
    pub clock: ClockRule,
    /// What happens about terminals.
    pub terminal: TerminalRule,
    /// The controlling terminal of the caller, if that takes the place of all terminals and the
    /// tree comes to its foreground. The caller then waits for the root.
    pub attach: Option<PathBuf>,
    /// If it is given, only images that are signed with it are restored.
    pub key: Option<Key>,
}

/// Decisions of a mount for all its dumps and restores.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a tree may take to stop. After that all of it is resumed (EBUSY).
    pub freeze_timeout: Duration,
    /// Whether the image holds semaphores and message queues that no living process has used, if
    /// they belong to the tree's users and its time.
    pub owned_sysv_ipc: bool,
    /// Decisions for the restores. Their key signs the images too.
    pub restore: RestoreOptions,
}

impl Default for Options {
    /// The options of a mount without any options.
    fn default() -> Self {
        Self { freeze_timeout: Duration::from_secs(5), owned_sysv_ipc: false, restore: RestoreOptions::default() }
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

//! What a restore makes of a file that is not as it was at the dump. The file is named by the image, its contents are where it lies.
//!
//! One rule holds always: what is memory of the process (the executable, a private mapping) must be unchanged. For what is only
//! open or mapped shared, a [`ChangedFiles`] decides.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use nix::sys::statfs::Statfs;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kind::object::RestoreContext;
use crate::kind::observed::{ObservedFile, RAMFS, TMPFS, Via};
use crate::options::ChangedFiles;

/// What is remembered of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileVersion {
    size: u64,
    mtime_ns: i64,
    memory: PageUse,
}

/// How far the process's memory depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PageUse {
    /// Not at all.
    No,
    /// Mapped shared: where it has become shorter, an access is SIGBUS.
    Shared,
    /// Its contents are part of it.
    Private,
}

impl FileVersion {
    /// Of a file that is looked at; `None` where size and time say nothing (a directory; /proc and its like).
    pub fn of(seen: &ObservedFile<'_>) -> Result<Option<Self>> {
        let memory = match seen.held {
            _ if seen.must_not_change => PageUse::Private,
            Via::Link(_) => PageUse::Shared,
            Via::Descriptor(..) => PageUse::No,
        };
        if !seen.stat.is_file() || memory == PageUse::No && is_of_the_kernel(&seen.filesystem()?) {
            return Ok(None);
        }
        Ok(Some(Self { size: seen.stat.size(), mtime_ns: mtime_ns(&seen.stat), memory }))
    }

    /// Whether what is there `now` is of the same size and time of last change.
    pub fn is_same(&self, now: &Metadata) -> bool {
        (now.size(), mtime_ns(now)) == (self.size, self.mtime_ns)
    }

    /// Judges what is there now under `name`; `position` is where the process stood in it.
    ///
    /// # Errors
    /// ESTALE: it may not be used.
    pub fn judge(&self, now: &Metadata, name: &str, position: u64, restore: &dyn RestoreContext) -> Result<()> {
        if self.is_same(now) {
            return Ok(());
        }
        let sizes = format!("size {} then, {} now", self.size, now.size());
        let stale =
            |why: &str| Err(Error::os(format_args!("{name} has changed since the dump{why} ({sizes})"), libc::ESTALE));
        if self.memory == PageUse::Private {
            return stale(", and parts of it are memory of the process");
        }
        if restore.changed_files() == ChangedFiles::Refuse {
            return stale("");
        }
        if now.size() < self.size && self.memory == PageUse::Shared {
            restore.warn(format!("{name} is shorter than at the dump, and was mapped ({sizes})"));
        } else if now.size() < self.size && now.size() < position {
            restore.warn(format!("{name} is shorter than at the dump, and the process stands at {position} ({sizes})"));
        }
        Ok(())
    }
}

/// Whether a filesystem has no blocks at all: /proc, /sys and whatever else answers statfs(2) by `simple_statfs` of the kernel's
/// fs/libfs.c. A tmpfs without a limit does so too.
fn is_of_the_kernel(filesystem: &Statfs) -> bool {
    filesystem.blocks() == 0 && ![TMPFS, RAMFS].contains(&filesystem.filesystem_type().0)
}

fn mtime_ns(stat: &Metadata) -> i64 {
    stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec())
}

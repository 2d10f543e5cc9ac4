//! What a restore does with a file that has changed since the dump. The image names the file and
//! does not have its contents.
//!
//! One rule always holds: a file that is memory of the process (the executable, a private mapping)
//! must have the same contents where it is mapped. Such a file of another time needs a [`Proof`].
//! For a file that is only open or mapped shared, [`ChangedFiles`] decides.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use nix::sys::statfs::Statfs;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file::parts::proof::Proof;
use crate::kind::object::RestoreContext;
use crate::kind::observed::{ObservedFile, RAMFS, TMPFS, Via};
use crate::kind::unnoticed::Unnoticed;
use crate::options::ChangedFiles;

/// Size and time of the last change of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileVersion {
    size: u64,
    mtime_ns: i64,
    memory: PageUse,
    /// What shows that a file of another time has the same contents where it is mapped privately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
}

/// How the process's memory depends on the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PageUse {
    /// Not at all.
    No,
    /// Mapped shared: if the file has become shorter, an access beyond its end is SIGBUS.
    Shared,
    /// Its contents are memory of the process.
    Private,
}

impl FileVersion {
    /// The version of the observed file, which is on this filesystem. `None` if size and time mean
    /// nothing (/proc and similar).
    pub fn of(observed: &ObservedFile<'_>, filesystem: &Statfs) -> Option<Self> {
        let memory = match observed.via {
            _ if observed.must_not_change => PageUse::Private,
            Via::Link(_) => PageUse::Shared,
            Via::Descriptor(..) => PageUse::No,
        };
        if memory == PageUse::No && is_of_the_kernel(filesystem) {
            return None;
        }
        Some(Self { size: observed.stat.size(), mtime_ns: mtime_ns(&observed.stat), memory, proof: None })
    }

    /// Adds the proof, taken of `file`. `parts` are mapped privately: offset and length.
    #[must_use]
    pub fn proved(self, file: &File, parts: &[(u64, u64)], files: &Unnoticed) -> Self {
        let proof = Proof::of(file, self.size, parts, |bytes| files.may_read(bytes));
        // What was read was not the file of the dump if that has changed meanwhile.
        let proof = proof.filter(|_| file.metadata().is_ok_and(|now| self.is_same(&now)));
        Self { proof, ..self }
    }

    /// Whether the file has the same size and time of last change `now`.
    pub fn is_same(&self, now: &Metadata) -> bool {
        (now.size(), mtime_ns(now)) == (self.size, self.mtime_ns)
    }

    /// Checks whether `file`, of the name `name`, may be used in its state `now`. `position` is the
    /// offset of the process in it.
    ///
    /// # Errors
    /// ESTALE: it has changed and may not be used.
    pub fn check(
        &self,
        (file, now): (&File, &Metadata),
        name: &str,
        position: u64,
        restore: &dyn RestoreContext,
    ) -> Result<()> {
        if self.is_same(now) {
            return Ok(());
        }
        let sizes = format!("size {} then, {} now", self.size, now.size());
        let times = || format!("changed at {} then, at {} now", shown(self.mtime_ns), shown(mtime_ns(now)));
        let is_of_size = self.size == now.size();
        let difference = if is_of_size { times() } else { sizes.clone() };
        let stale = |why: &str| {
            Err(Error::os(format_args!("{name} has changed since the dump{why} ({difference})"), libc::ESTALE))
        };
        if restore.changed_files() == ChangedFiles::Refuse {
            return stale("");
        }
        match self.memory {
            PageUse::Private if is_of_size && self.proof.as_ref().is_some_and(|proof| proof.holds(file)) => {
                restore.warn(format!(
                    "{name} has another time than at the dump, and the same contents where it is mapped ({difference})"
                ));
            }
            PageUse::Private => return stale(", and parts of it are memory of the process"),
            PageUse::Shared if now.size() < self.size => {
                restore.warn(format!("{name} is shorter than at the dump, and was mapped ({sizes})"));
            }
            _ if now.size() < self.size && now.size() < position => restore
                .warn(format!("{name} is shorter than at the dump, and the process stands at {position} ({sizes})")),
            _ => {}
        }
        Ok(())
    }
}

/// A time as a person reads it, in UTC.
fn shown(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

/// Whether a filesystem has no blocks at all: /proc, /sys and all others that answer statfs(2) with
/// `simple_statfs` of the kernel's fs/libfs.c. A tmpfs without a limit also shows no blocks.
fn is_of_the_kernel(filesystem: &Statfs) -> bool {
    filesystem.blocks() == 0 && ![TMPFS, RAMFS].contains(&filesystem.filesystem_type().0)
}

fn mtime_ns(stat: &Metadata) -> i64 {
    stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec())
}

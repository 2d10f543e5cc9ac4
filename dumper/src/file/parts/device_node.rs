//! Character devices that are opened again by name.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_path};

/// The record.
#[derive(Serialize, Deserialize)]
pub struct DeviceNode {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    rdev: u64,
    flags: i32,
}

impl DeviceNode {
    /// The record of the observed device. `what` is its name in errors.
    pub fn of(observed: &ObservedFile<'_>, what: &str) -> Result<Self> {
        let name = observed.target.display().to_string();
        if !observed.is_named() {
            return Err(observed.refuse(format_args!("{what} {name} whose name is gone")));
        }
        let path = observed.target.clone().into_os_string().into_vec();
        Ok(Self { path, name, rdev: observed.stat.rdev(), flags: observed.flags & !NOT_KEPT })
    }

    /// Its path, for sentences.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device number.
    pub fn rdev(&self) -> u64 {
        self.rdev
    }

    /// stat(2) of what has its name now. `None`: nothing has.
    pub fn facts(&self) -> Option<Metadata> {
        std::fs::metadata(self.path()).ok()
    }

    /// Opens another device in its place, with the same flags.
    pub fn open_other(&self, path: &Path) -> Result<OwnedFd> {
        open_path(path, self.flags).map(OwnedFd::from)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.path))
    }

    /// Opens it, never as a controlling terminal.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: the name leads to something else now.
    pub fn open(&self) -> Result<OwnedFd> {
        let path = self.path();
        // Checked before it is opened as well: opening another device may have an effect or block.
        if self.facts().is_some_and(|now| !self.is(&now)) {
            return Err(self.is_another());
        }
        let file = open_path(path, self.flags)?;
        let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
        if self.is(&now) { Ok(file.into()) } else { Err(self.is_another()) }
    }

    fn is(&self, now: &Metadata) -> bool {
        now.file_type().is_char_device() && now.rdev() == self.rdev
    }

    fn is_another(&self) -> Error {
        Error::new(Kind::NotFound, format!("{} is no longer the same device", self.name))
    }
}

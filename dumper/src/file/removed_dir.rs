//! Directories that were removed while they were open or the working directory of a process. They
//! stay empty, but have mode, owner and times.
//!
//! A restore creates such a directory under its old name if that is free, together with the
//! directories above it that are gone as well. Otherwise it uses another name beside it. Then it
//! removes all of them again.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::owner::Owner;
use crate::file::parts::times::FileTimes;
use crate::file::parts::xattrs::{self, Xattr};
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;
use crate::sys::fd;

/// Table row: the object.
pub struct RemovedDir;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct RemovedDirBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    #[serde(flatten)]
    owner: Owner,
    times: FileTimes,
    xattrs: Vec<Xattr>,
}

impl Object for RemovedDir {
    type Body = RemovedDirBody;
    const KIND: &'static str = "removed";

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        observed.refuse_leased()
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<RemovedDirBody>> {
        let path = observed.name_before();
        let dir = observed.anew(libc::O_RDONLY | libc::O_DIRECTORY)?;
        let body = RemovedDirBody {
            name: path.display().to_string(),
            path: path.into_os_string().into_vec(),
            owner: Owner::of(&observed.stat),
            times: FileTimes::of(&observed.stat),
            xattrs: xattrs::of(&dir).on(|| &observed.subject)?,
        };
        Ok(Dumped { body, blob: Vec::new(), contents: None })
    }

    fn make(&self, body: &RemovedDirBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&body.path));
        let mut made = TemporaryDirs(Vec::new());
        let fd = made.make(&path)?;
        drop(made);
        directory::is_gone(&fd, &path)?;
        Ok(RestoredObject::new(fd, 0))
    }

    fn finish(&self, body: &RemovedDirBody, object: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing removed directory {}", body.name);
        body.owner.restore(&object.fd, doing)?;
        xattrs::restore(&object.fd, &body.xattrs).on(doing)?;
        body.times.restore(&object.fd).on(doing)
    }
}

/// Directories that are created for a moment, each in the one before: removed on Drop.
struct TemporaryDirs(Vec<(ParentDir, OsString)>);

impl TemporaryDirs {
    /// Creates `path`, or a directory beside it if that name is taken, and the missing directories
    /// above it.
    fn make(&mut self, path: &Path) -> Result<OwnedFd> {
        let (mut parent, missing) = ParentDir::nearest(path)?;
        for name in missing {
            let inner = parent.make_directory(name)?;
            self.0.push((std::mem::replace(&mut parent, inner), name.to_owned()));
        }
        let (fd, name) = parent.make_directory_beside(path.file_name().unwrap_or_default())?;
        self.0.push((parent, name));
        Ok(fd)
    }
}

impl Drop for TemporaryDirs {
    fn drop(&mut self) {
        for (parent, name) in self.0.iter().rev() {
            if let Err(error) = parent.remove_directory(name) {
                log::warn!("{error}");
            }
        }
    }
}

/// Table row: a description of it.
pub struct RemovedDirDescription;

impl OpenFile for RemovedDirDescription {
    type Body = Reference;
    const KIND: &'static str = "removed";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        // The directories of /proc/PID vanish when the process ends, but a restore cannot create
        // those.
        observed.stat.is_dir() && observed.is_unlinked() && !observed.target.starts_with("/proc")
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<Reference> {
        Reference::dump(&RemovedDir, observed, objects)
    }

    fn restore(&self, body: Reference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        let fd = context.object(body.object)?.open(body.flags, 0)?;
        // The directory is empty at every offset, so a failure does no harm. ext4 accepts the
        // offset of an indexed directory only in a directory that has a block.
        if body.position != 0
            && let Err(error) = fd::seek(&fd, body.position)
        {
            log::debug!("removed directory: {error}");
        }
        Ok(fd)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::kind::observed::fake::observed;

    fn again(dir: &std::fs::File) -> PathBuf {
        let observed = ObservedFile { flags: libc::O_DIRECTORY, ..observed(dir) };
        assert!(OpenFile::takes(&RemovedDirDescription, &observed));
        let Dumped { body, .. } = Object::dump(&RemovedDir, &observed).unwrap();
        let object = Object::make(&RemovedDir, &body, &[]).unwrap();
        Object::finish(&RemovedDir, &body, &object).unwrap();
        let after = std::fs::File::from(object.open(libc::O_DIRECTORY, 0).unwrap());
        assert_eq!(after.metadata().unwrap().mode(), dir.metadata().unwrap().mode());
        std::fs::read_link(format!("/proc/self/fd/{}", after.as_raw_fd())).unwrap()
    }

    #[test]
    fn name_and_mode_come_back_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let open = std::fs::File::open(&deep).unwrap();
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(again(&open), dir.path().join("a/b (deleted)"));
        std::fs::create_dir_all(&deep).unwrap();
        assert!(again(&open).starts_with(dir.path().join("a")));
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}

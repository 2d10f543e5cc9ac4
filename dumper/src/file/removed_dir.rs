//! Directories that were removed while they were open or somebody's working directory: empty for ever, but with mode, owner and times.
//!
//! At the restore such a directory is made under its old name where that is free (with the directories above it that are gone as
//! well), else under another one beside it, and removed again.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Result};
use crate::file::parts::directory::{self, ParentDir};
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
    mode: u32,
    uid: u32,
    gid: u32,
    times: FileTimes,
    xattrs: Vec<Xattr>,
}

impl Object for RemovedDir {
    type Body = RemovedDirBody;
    const KIND: &'static str = "removed";

    fn dump(&self, seen: &ObservedFile<'_>) -> Result<Dumped<RemovedDirBody>> {
        let path = seen.name_before();
        let dir = seen.anew(libc::O_RDONLY | libc::O_DIRECTORY)?;
        let body = RemovedDirBody {
            name: path.display().to_string(),
            path: path.into_os_string().into_vec(),
            mode: seen.stat.mode() & 0o7777,
            uid: seen.stat.uid(),
            gid: seen.stat.gid(),
            times: FileTimes::of(&seen.stat),
            xattrs: xattrs::of(&dir).on(|| &seen.subject)?,
        };
        Ok(Dumped { body, blob: Vec::new(), contents: None })
    }

    fn make(&self, body: &RemovedDirBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&body.path));
        let mut made = TemporaryDirs(Vec::new());
        let fd = made.make(&path)?;
        drop(made);
        directory::is_gone(&fd, &path)?;
        Ok(RestoredObject { fd, other: None, len: 0, made: None })
    }

    fn finish(&self, body: &RemovedDirBody, anchor: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing removed directory {}", body.name);
        fchown(&anchor.fd, Some(body.uid.into()), Some(body.gid.into())).doing(doing)?;
        fchmod(&anchor.fd, Mode::from_bits_truncate(body.mode)).doing(doing)?;
        xattrs::put(&anchor.fd, &body.xattrs).on(doing)?;
        body.times.put(&anchor.fd).on(doing)
    }
}

/// Directories that exist for a moment, each in the one before: removed on Drop.
struct TemporaryDirs(Vec<(ParentDir, OsString)>);

impl TemporaryDirs {
    /// Makes `path`, or something beside it if there is such a thing already, and what is missing above.
    fn make(&mut self, path: &Path) -> Result<OwnedFd> {
        let (mut place, missing) = ParentDir::nearest(path)?;
        for name in missing {
            let inner = place.make_directory(name)?;
            self.0.push((std::mem::replace(&mut place, inner), name.to_owned()));
        }
        let (fd, name) = place.make_directory_beside(path.file_name().unwrap_or_default())?;
        self.0.push((place, name));
        Ok(fd)
    }
}

impl Drop for TemporaryDirs {
    fn drop(&mut self) {
        for (place, name) in self.0.iter().rev() {
            if let Err(error) = place.remove(name) {
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

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        // A process that has ended takes its directories of /proc with it, but those are no mere names.
        seen.stat.is_dir() && seen.is_unlinked() && !seen.target.starts_with("/proc")
    }

    fn dump(&self, seen: &ObservedFile<'_>, objects: &dyn DumpContext) -> Result<Reference> {
        let object = objects.id_of(&RemovedDir, seen)?;
        Ok(Reference::new(object, seen))
    }

    fn restore(&self, body: Reference, anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        let fd = anchors.anchor(body.object)?.open(body.flags, 0)?;
        // Nothing is read at any offset, and ext4 takes those of a directory with an index in one that has any block only.
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

    use super::*;
    use crate::kind::observed::Via;
    use crate::sys::proc::status::Fields;

    fn again(dir: &std::fs::File) -> PathBuf {
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let seen = ObservedFile {
            subject: "test".into(),
            target: std::fs::read_link(&link).unwrap(),
            stat: dir.metadata().unwrap(),
            flags: libc::O_DIRECTORY,
            position: 0,
            info: Fields::parse(""),
            must_not_change: false,
            held: Via::Link(&link),
        };
        assert!(OpenFile::takes(&RemovedDirDescription, &seen));
        let Dumped { body, .. } = Object::dump(&RemovedDir, &seen).unwrap();
        let anchor = Object::make(&RemovedDir, &body, &[]).unwrap();
        Object::finish(&RemovedDir, &body, &anchor).unwrap();
        let after = std::fs::File::from(anchor.open(libc::O_DIRECTORY, 0).unwrap());
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

//! Regular files without a name: unlinked while they were open or mapped (also an executable or a
//! library that a package upgrade has replaced), or never named (open(2), O_TMPFILE). Their
//! contents are in the image, once for all descriptions and mappings.
//!
//! A restore creates such a file under its old name if that is free, and unlinks it again, so that
//! /proc shows the same name for it. Otherwise it creates the file without a name, in that
//! directory, in the nearest one that exists, or in /tmp.
//!
//! A file of a filesystem that keeps nothing on a disk may be a secret. It is created on a
//! filesystem of the same type only.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::statfs::fstatfs;
use nix::unistd::ftruncate;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::owner::Owner;
use crate::file::parts::times::FileTimes;
use crate::file::parts::xattrs::{self, Xattr};
use crate::file::parts::{contents, overlay};
use crate::file::special;
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::{NOT_KEPT, ObservedFile, RAMFS, SETTABLE, TMPFILE, TMPFS};
use crate::kind::open_file::OpenFile;
use crate::sys::open::O_LARGEFILE;
use crate::sys::proc;

/// Table row: the object.
pub struct Unlinked;

/// Its record.
#[derive(Serialize, Deserialize)]
pub struct UnlinkedBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    size: u64,
    #[serde(flatten)]
    owner: Owner,
    times: FileTimes,
    /// It never had a name: O_TMPFILE and the flags that it was created with, as far as they are
    /// known.
    made_with: Option<i32>,
    xattrs: Vec<Xattr>,
    /// The type of its filesystem, statfs(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filesystem: Option<i64>,
}

impl Object for Unlinked {
    type Body = UnlinkedBody;
    const KIND: &'static str = "unlinked";

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        observed.refuse_leased()?;
        observed.refuse_huge("a file").map(drop)
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<UnlinkedBody>> {
        let filesystem = observed.refuse_huge("a file")?;
        let path = observed.name_before();
        // The kernel names a file that open(2) created with O_TMPFILE after its inode
        // (d_mark_tmpfile in fs/dcache.c).
        let nameless = path.file_name().is_some_and(|name| name == format!("#{}", observed.stat.ino()).as_str());
        let made_with = match observed.flags & TMPFILE {
            0 => nameless.then_some(TMPFILE | libc::O_RDWR),
            _ => Some(observed.flags & !NOT_KEPT & !SETTABLE),
        };
        let size = observed.stat.size();
        let file = observed.anew(libc::O_RDONLY | libc::O_NOATIME)?;
        // A copy of a tmpfs file is in memory either way. In the same tmpfs it would take space
        // from the process.
        let beside = if filesystem == TMPFS { None } else { directory_beside(&path, observed.stat.dev()) };
        let contents = contents::copy_beside(&file, size, beside, &observed.subject)?;
        let body = UnlinkedBody {
            name: path.display().to_string(),
            path: path.into_os_string().into_vec(),
            size,
            owner: Owner::of(&observed.stat),
            times: FileTimes::of(&observed.stat),
            made_with,
            xattrs: xattrs::of(&file).on(|| &observed.subject)?,
            filesystem: Some(filesystem),
        };
        Ok(Dumped { body, blob: Vec::new(), contents })
    }

    fn make(&self, body: &UnlinkedBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&body.path));
        let named = if body.made_with.is_some() { None } else { body.make_under_name(&path)? };
        let fd = match named {
            Some(fd) => fd,
            None => body.make_nameless(&path)?,
        };
        let doing = || format!("giving unlinked file {} its {} bytes", body.name, body.size);
        let size = i64::try_from(body.size).map_err(|_| Error::damaged(doing()))?;
        ftruncate(&fd, size).doing(doing)?;
        Ok(RestoredObject::new(fd, body.size))
    }

    fn warning(&self, body: &UnlinkedBody, object: &RestoredObject) -> Option<String> {
        let link = proc::read_link(&format!("/proc/self/fd/{}", object.fd.as_raw_fd())).ok()?;
        let (before, now) = (Path::new(OsStr::from_bytes(&body.path)).parent()?, link.parent()?);
        let is_of_type = |kind: i64| fstatfs(&object.fd).is_ok_and(|found| found.filesystem_type().0 == kind);
        match body.filesystem {
            _ if before != now => Some(format!("unlinked file {} is in {} now", body.name, now.display())),
            Some(kind) if !is_of_type(kind) => {
                Some(format!("unlinked file {} is on a filesystem of another type now", body.name))
            }
            _ => None,
        }
    }

    fn finish(&self, body: &UnlinkedBody, object: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing unlinked file {}", body.name);
        body.owner.restore(&object.fd, doing)?;
        xattrs::restore(&object.fd, &body.xattrs).on(doing)?;
        body.times.restore(&object.fd).on(doing)
    }
}

/// The nearest directory above `path` that still exists, if it is on the filesystem of the file.
fn directory_beside(path: &Path, dev: u64) -> Option<&Path> {
    let dir = path.ancestors().skip(1).find(|dir| dir.is_dir())?;
    std::fs::metadata(dir).ok().filter(|stat| stat.dev() == dev).map(|_| dir)
}

/// ECRYPTFS_SUPER_MAGIC, statfs(2): its files are encrypted on the disk.
const ECRYPTFS: i64 = 0xf15f;

impl UnlinkedBody {
    /// The type of its filesystem, if a file of another one would show what is kept off the disk.
    fn secret(&self) -> Option<i64> {
        self.filesystem.filter(|kind| [TMPFS, RAMFS, ECRYPTFS].contains(kind))
    }

    fn may_be_in(&self, dir: &ParentDir) -> bool {
        self.secret().is_none_or(|kind| dir.filesystem().is_ok_and(|found| found == kind))
    }

    /// Creates the file under `path` and unlinks it; `None` if that is not possible.
    fn make_under_name(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let Ok((dir, name)) = ParentDir::of(path) else { return Ok(None) };
        if !self.may_be_in(&dir) {
            return Ok(None);
        }
        let Ok(fd) = dir.make_file(name) else { return Ok(None) };
        dir.unlink(name)?;
        directory::is_gone(&fd, path)?;
        Ok(Some(fd))
    }

    /// Creates the file with O_TMPFILE, as near to `path` as possible.
    fn make_nameless(&self, path: &Path) -> Result<OwnedFd> {
        let near = ParentDir::nearest(path).map(|(dir, _)| dir);
        let spare = if self.secret().is_some() { &["/tmp", "/dev/shm"][..] } else { &["/tmp"] };
        let spare = spare.iter().map(|dir| ParentDir::at(Path::new(dir)));
        let mut failed = None;
        for dir in std::iter::once(near).chain(spare).flatten().filter(|dir| self.may_be_in(dir)) {
            match dir.make_nameless(self.made_with.unwrap_or(libc::O_RDWR)) {
                Ok(fd) => return Ok(fd),
                Err(errno) => {
                    let doing = format!("making unlinked file {} again in {}", self.name, dir.path().display());
                    failed = Some(Error::os(doing, errno as i32));
                }
            }
        }
        let why = match self.secret() {
            Some(_) => {
                ": it was on a filesystem that keeps nothing readable on a disk, and no other of that type is there"
            }
            None => "",
        };
        Err(failed
            .unwrap_or_else(|| Error::new(Kind::NotFound, format!("no place for unlinked file {}{why}", self.name))))
    }
}

/// Table row: a description of it, or what a mapping refers to.
pub struct UnlinkedDescription;

impl OpenFile for UnlinkedDescription {
    type Body = Reference;
    const KIND: &'static str = "unlinked";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        let is_gone = || observed.stat.nlink() == 0 || overlay::is_hidden_below(observed);
        observed.stat.is_file() && observed.is_unlinked() && is_gone() && special::nameless(observed).is_none()
    }

    fn dump(&self, observed: &ObservedFile<'_>, objects: &mut dyn DumpContext) -> Result<Reference> {
        Reference::dump(&Unlinked, observed, objects)
    }

    fn restore(&self, body: Reference, context: &dyn RestoreContext) -> Result<OwnedFd> {
        if body.flags & TMPFILE == 0 {
            return body.open(context);
        }
        // O_TMPFILE stays a flag of the one description that created the file: the descriptor of
        // the object itself.
        let object = context.object(body.object)?;
        let doing = || "the description that made a nameless file";
        let made_with = fcntl(object.fd.as_fd(), FcntlArg::F_GETFL).doing(doing)?;
        if (made_with ^ body.flags) & !SETTABLE & !NOT_KEPT & !O_LARGEFILE != 0 {
            return object.open(body.flags & !libc::O_TMPFILE, body.position);
        }
        object.hand_out(body.flags, body.position)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::image::page_source::PageSource;
    use crate::kind::observed::fake::observed;
    use crate::memory::source::{MemorySource, MemorySources};

    fn link(fd: i32) -> String {
        format!("/proc/self/fd/{fd}")
    }

    fn again(file: &File, flags: i32) -> (UnlinkedBody, RestoredObject) {
        let observed = ObservedFile { flags, position: 0, ..observed(file) };
        assert!(OpenFile::takes(&UnlinkedDescription, &observed));
        let Dumped { body, contents, .. } = Object::dump(&Unlinked, &observed).unwrap();
        let object = Object::make(&Unlinked, &body, &[]).unwrap();
        if let Some(contents) = contents {
            let runs: Vec<_> = contents.runs.runs().collect();
            assert_eq!(runs.len(), 1, "the hole stays one");
            let mut page = [0; 4096];
            MemorySources(vec![MemorySource::File(contents.file.into())]).read(0, runs[0].address, &mut page).unwrap();
            object.fill(runs[0].address, &page).unwrap();
        }
        Object::finish(&Unlinked, &body, &object).unwrap();
        (body, object)
    }

    #[test]
    fn contents_name_mode_and_times_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a name");
        let file = File::create_new(&path).unwrap();
        file.write_all_at(b"there", 1 << 20).unwrap();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (_, object) = again(&file, libc::O_RDWR);
        let before = file.metadata().unwrap();
        let mut file = File::from(object.open(libc::O_RDONLY, 1 << 20).unwrap());
        let after = file.metadata().unwrap();
        assert_eq!((after.mode(), after.mtime(), after.blocks()), (before.mode(), 0, before.blocks()));
        let target = std::fs::read_link(link(file.as_raw_fd())).unwrap();
        assert_eq!(target, dir.path().join("a name (deleted)"));
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there");
    }

    #[test]
    fn a_name_that_is_taken_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        let (_, object) = again(&file, libc::O_RDWR);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
        let target = std::fs::read_link(link(object.fd.as_raw_fd())).unwrap();
        assert!(target.starts_with(dir.path()) && target.to_str().unwrap().ends_with(" (deleted)"));
    }

    #[test]
    fn its_directory_may_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper");
        std::fs::create_dir(&path).unwrap();
        let file = File::create_new(path.join("name")).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        let (body, object) = again(&file, libc::O_RDWR);
        assert!(body.name.ends_with("deeper/name"));
        assert_eq!(File::from(object.fd).metadata().unwrap().nlink(), 0);
    }

    #[test]
    fn a_file_of_a_tmpfs_never_lands_on_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let Dumped { mut body, .. } = Object::dump(&Unlinked, &observed(&file)).unwrap();
        let object = Object::make(&Unlinked, &body, &[]).unwrap();
        assert_eq!(Object::warning(&Unlinked, &body, &object), None);
        body.filesystem = Some(TMPFS);
        let object = Object::make(&Unlinked, &body, &[]).unwrap();
        assert_eq!(fstatfs(&object.fd).unwrap().filesystem_type().0, TMPFS);
        let moved = || Object::warning(&Unlinked, &body, &object).unwrap().ends_with(" now");
        assert!(ParentDir::at(dir.path()).unwrap().filesystem().unwrap() == TMPFS || moved());
        body.filesystem = Some(RAMFS);
        let refused = Object::make(&Unlinked, &body, &[]).err().unwrap();
        assert!(refused.to_string().contains("no other of that type"), "{refused}");
    }
}

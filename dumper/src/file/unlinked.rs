//! Regular files without a name: unlinked while they were open or mapped (also an executable or a
//! library that a package upgrade has replaced), or never named (open(2), O_TMPFILE). Their
//! contents are in the image, once for all descriptions and mappings.
//!
//! A restore creates such a file under its old name if that is free, and unlinks it again, so that
//! /proc shows the same name for it. Otherwise it creates the file without a name, in that
//! directory, in the nearest one that exists, or in /tmp.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::ftruncate;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Result};
use crate::file::parts::directory::{self, ParentDir};
use crate::file::parts::owner::Owner;
use crate::file::parts::times::FileTimes;
use crate::file::parts::xattrs::{self, Xattr};
use crate::file::parts::{contents, overlay};
use crate::kind::object::{DumpContext, Dumped, Object, Reference, RestoreContext, RestoredObject};
use crate::kind::observed::{HUGETLBFS, NOT_KEPT, ObservedFile, SETTABLE, TMPFILE, TMPFS};
use crate::kind::open_file::OpenFile;
use crate::sys::open::O_LARGEFILE;

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
}

impl Object for Unlinked {
    type Body = UnlinkedBody;
    const KIND: &'static str = "unlinked";

    fn check(&self, observed: &ObservedFile<'_>) -> Result<()> {
        observed.refuse_leased()?;
        refuse_huge(observed).map(drop)
    }

    fn dump(&self, observed: &ObservedFile<'_>) -> Result<Dumped<UnlinkedBody>> {
        let filesystem = refuse_huge(observed)?;
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
        };
        Ok(Dumped { body, blob: Vec::new(), contents })
    }

    fn make(&self, body: &UnlinkedBody, _blob: &[u8]) -> Result<RestoredObject> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&body.path));
        let named = if body.made_with.is_some() { None } else { make_under_name(&path)? };
        let fd = match named {
            Some(fd) => fd,
            None => make_nameless(&path, body.made_with.unwrap_or(libc::O_RDWR))?,
        };
        let doing = || format!("giving unlinked file {} its {} bytes", body.name, body.size);
        let size = i64::try_from(body.size).map_err(|_| Error::damaged(doing()))?;
        ftruncate(&fd, size).doing(doing)?;
        Ok(RestoredObject { fd, other: None, len: body.size, made: None })
    }

    fn finish(&self, body: &UnlinkedBody, object: &RestoredObject) -> Result<()> {
        let doing = || format!("finishing unlinked file {}", body.name);
        body.owner.restore(&object.fd, doing)?;
        xattrs::restore(&object.fd, &body.xattrs).on(doing)?;
        body.times.restore(&object.fd).on(doing)
    }
}

/// Refuses a file of huge pages. Returns the type of its filesystem.
fn refuse_huge(observed: &ObservedFile<'_>) -> Result<i64> {
    match observed.filesystem()?.filesystem_type().0 {
        HUGETLBFS => Err(observed.refuse("a file of huge pages")),
        other => Ok(other),
    }
}

/// The nearest directory above `path` that still exists, if it is on the filesystem of the file.
fn directory_beside(path: &Path, dev: u64) -> Option<&Path> {
    let dir = path.ancestors().skip(1).find(|dir| dir.is_dir())?;
    std::fs::metadata(dir).ok().filter(|stat| stat.dev() == dev).map(|_| dir)
}

/// Creates the file under `path` and unlinks it; `None` if that is not possible.
fn make_under_name(path: &Path) -> Result<Option<OwnedFd>> {
    let Ok((dir, name)) = ParentDir::of(path) else { return Ok(None) };
    let Ok(fd) = dir.make_file(name) else { return Ok(None) };
    dir.unlink(name)?;
    directory::is_gone(&fd, path)?;
    Ok(Some(fd))
}

/// Creates the file with O_TMPFILE, as near to `path` as possible.
fn make_nameless(path: &Path, flags: i32) -> Result<OwnedFd> {
    let near = ParentDir::nearest(path).map(|(dir, _)| dir);
    let mut failed = Error::os(format_args!("no place for unlinked file {}", path.display()), libc::ENOENT);
    for dir in [near, ParentDir::at(Path::new("/tmp"))].into_iter().flatten() {
        match dir.make_nameless(flags) {
            Ok(fd) => return Ok(fd),
            Err(errno) => {
                let doing = format!("making unlinked file {} again in {}", path.display(), dir.path().display());
                failed = Error::os(doing, errno as i32);
            }
        }
    }
    Err(failed)
}

/// Table row: a description of it, or what a mapping refers to.
pub struct UnlinkedDescription;

impl OpenFile for UnlinkedDescription {
    type Body = Reference;
    const KIND: &'static str = "unlinked";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        let is_gone = || observed.stat.nlink() == 0 || overlay::is_hidden_below(observed);
        observed.stat.is_file() && observed.is_unlinked() && is_gone()
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
    use std::os::fd::AsRawFd;
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
}

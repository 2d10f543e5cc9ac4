//! A directory that is held open. A restore creates a file in it for a moment, under a name from
//! the image.
//!
//! No process can redirect the restorer. Names in /proc hold no symbolic link, so the restorer
//! follows none on the way to the directory (openat2(2), RESOLVE_NO_SYMLINKS), and it uses all
//! names relative to the directory. A process that may write in the directory can still replace the
//! created file with its own. The restorer notices that: the created file then still has a name
//! ([`is_gone`]).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, mkfifoat, symlinkat, unlinkat};

use crate::error::{Doing, Error, Result};
use crate::sys::open::open_name;

/// A directory that exists.
pub struct ParentDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// How many other names are tried if one is taken.
const NAMES_MOST: u32 = 100;

impl ParentDir {
    /// The directory at `path`.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] if it is gone, ELOOP if a symbolic link is on the way,
    /// ENOTDIR if it is no directory.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self { dir: open_name(path, libc::O_PATH | libc::O_DIRECTORY)?, path: path.to_owned() })
    }

    /// The directory of `path`, and the last name of `path`.
    pub fn of(path: &Path) -> Result<(Self, &OsStr)> {
        let (dir, name) = split(path)?;
        Ok((Self::at(dir)?, name))
    }

    /// The nearest directory above `path` that exists, and the missing directories between the two,
    /// the outermost first.
    pub fn nearest(path: &Path) -> Result<(Self, Vec<&OsStr>)> {
        let (mut dir, _) = split(path)?;
        let mut missing = Vec::new();
        loop {
            match (Self::at(dir), split(dir)) {
                (Err(_), Ok((above, name))) => {
                    missing.insert(0, name);
                    dir = above;
                }
                (found, _) => return Ok((found?, missing)),
            }
        }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The type of the filesystem that it is on, statfs(2).
    pub fn filesystem(&self) -> Result<i64> {
        let found = fstatfs(&self.dir).doing(|| format!("statfs of {}", self.path.display()))?;
        Ok(found.filesystem_type().0)
    }

    /// A new regular file, open for reading and writing, that only its owner may open.
    pub fn make_file(&self, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
    }

    /// A new regular file without a name (open(2), O_TMPFILE), opened with these flags as well.
    pub fn make_nameless(&self, flags: i32) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        openat(&self.dir, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)
    }

    /// Creates a FIFO under `name`, or under another name if that is taken. Returns its descriptor
    /// (O_PATH) and its name.
    pub fn make_fifo(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| mkfifoat(&self.dir, name, Mode::S_IRUSR | Mode::S_IWUSR))?;
        Ok((self.open(&name, OFlag::O_PATH)?, name))
    }

    /// Creates a symbolic link to `target` under `name`, or under another name if that is taken.
    /// Returns its descriptor (O_PATH) and its name.
    pub fn make_symlink(&self, name: &OsStr, target: &OsStr) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| symlinkat(target, &self.dir, name))?;
        Ok((self.open(&name, OFlag::O_PATH)?, name))
    }

    /// Creates a device node that only its owner may open, likewise.
    pub fn make_device(&self, name: &OsStr, kind: SFlag, device: u64) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| mknodat(&self.dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device))?;
        Ok((self.open(&name, OFlag::O_PATH)?, name))
    }

    /// A new directory under `name`.
    pub fn make_directory(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let made = mkdirat(&self.dir, name, Mode::S_IRWXU).doing(|| format!("making directory {}", path.display()));
        // The error of opening the existing entry is more precise.
        made.or_else(|error| Self::at(&path).and(Err(error)))?;
        Ok(Self { dir: self.open(name, OFlag::O_PATH | OFlag::O_DIRECTORY)?, path })
    }

    /// Creates a directory under `name`, or under another name if that is taken. Returns its
    /// descriptor, open for reading, and its name.
    pub fn make_directory_beside(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| mkdirat(&self.dir, name, Mode::S_IRWXU))?;
        Ok((self.open(&name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, name))
    }

    /// Makes something under `name`, or under another name if that is taken. Returns the name.
    fn beside(&self, name: &OsStr, make: impl Fn(&OsStr) -> std::result::Result<(), Errno>) -> Result<OsString> {
        let others = (1..=NAMES_MOST).map(|n| format!(".ckptfs-{n}").into());
        let mut failed = Errno::EEXIST;
        for name in std::iter::once(name.to_owned()).chain(others) {
            match make(&name) {
                Ok(()) => return Ok(name),
                Err(Errno::EEXIST) => {}
                Err(errno) => {
                    failed = errno;
                    break;
                }
            }
        }
        Err(failed).doing(|| format!("making {} again", self.path.join(name).display()))
    }

    fn open(&self, name: &OsStr, flags: OFlag) -> Result<OwnedFd> {
        let doing = || format!("opening {} again", self.path.join(name).display());
        openat(&self.dir, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).doing(doing)
    }

    /// Removes the name of a file in this directory.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        self.remove_name(name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes a directory in this directory.
    pub fn remove_directory(&self, name: &OsStr) -> Result<()> {
        self.remove_name(name, UnlinkatFlags::RemoveDir)
    }

    fn remove_name(&self, name: &OsStr, how: UnlinkatFlags) -> Result<()> {
        unlinkat(&self.dir, name, how).doing(|| format!("removing {} again", self.path.join(name).display()))
    }
}

/// Makes sure that a created file has no name any more.
///
/// # Errors
/// EBUSY: another process has moved it to another name.
pub fn is_gone(fd: impl AsFd, name: &Path) -> Result<()> {
    let stat = fstat(fd).doing(|| format!("stat of {}, made again", name.display()))?;
    match stat.st_nlink {
        0 => Ok(()),
        _ => Err(Error::os(format!("{}: another process has moved what was made there", name.display()), libc::EBUSY)),
    }
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let split = path.parent().zip(path.file_name()).filter(|_| path.is_absolute());
    split.ok_or_else(|| Error::damaged(format!("{} names nothing in a directory", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(ParentDir::of(&link.join("name")).err().unwrap().kind(), Kind::System(libc::ELOOP));
        assert_eq!(ParentDir::of(&dir.path().join("gone/name")).err().unwrap().kind(), Kind::NotFound);
        let path = link.join("deep/name");
        let (parent, missing) = ParentDir::nearest(&path).unwrap();
        assert_eq!((parent.path(), missing), (dir.path(), vec![OsStr::new("link"), OsStr::new("deep")]));
        assert!(parent.make_directory(OsStr::new("link")).is_err());
        let (parent, name) = ParentDir::of(&link).unwrap();
        assert_eq!(parent.make_file(name).err(), Some(Errno::EEXIST));
        assert_eq!(parent.make_fifo(name).unwrap().1, ".ckptfs-1");
        assert_eq!(std::fs::read_dir(&real).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_another_process_moves_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let (parent, name) = ParentDir::of(&path).unwrap();
        let fd = parent.make_file(name).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "another").unwrap();
        parent.unlink(name).unwrap();
        assert_eq!(is_gone(&fd, &path).unwrap_err().kind(), Kind::System(libc::EBUSY));
        std::fs::remove_file(dir.path().join("moved")).unwrap();
        is_gone(&fd, &path).unwrap();
    }
}

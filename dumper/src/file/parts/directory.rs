//! Where something is made again for a moment under a name of the image: a directory, held open, and names in it.
//!
//! Nobody can lead us elsewhere: the names that /proc tells hold no symbolic link, so none is followed on the way to the directory
//! (openat2(2), RESOLVE_NO_SYMLINKS), and whatever is made or taken away there is named relative to it. Whoever may write in that
//! directory can still put something of his in the place of what was made; it is noticed, since what was made is then not gone.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};

use crate::error::{Doing, Error, Result};
use crate::sys::open::open_name;

/// A directory that is there.
pub struct ParentDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// Names that are tried beside one that is taken.
const NAMES_MOST: u32 = 100;

impl ParentDir {
    /// The directory at `path`.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] if it is gone, ELOOP if a symbolic link stands on the way, ENOTDIR if it is something else.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self { dir: open_name(path, libc::O_PATH | libc::O_DIRECTORY)?, path: path.to_owned() })
    }

    /// The directory that `path` names something in, and the name.
    pub fn of(path: &Path) -> Result<(Self, &OsStr)> {
        let (dir, name) = split(path)?;
        Ok((Self::at(dir)?, name))
    }

    /// The nearest directory above `path` that is there, and what is missing between the two, the outermost first.
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

    /// A new regular file, open for reading and writing, that nobody else may open.
    pub fn make_file(&self, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
    }

    /// A regular file without a name, open(2) O_TMPFILE, with these flags as well.
    pub fn make_nameless(&self, flags: i32) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        openat(&self.dir, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)
    }

    /// A new FIFO under `name`, or under another name if that is taken; open as a mere place (O_PATH), and the name.
    pub fn make_fifo(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| mkfifoat(&self.dir, name, Mode::S_IRUSR | Mode::S_IWUSR))?;
        Ok((self.open(&name, OFlag::O_PATH)?, name))
    }

    /// A new directory under `name`.
    pub fn make_directory(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let made = mkdirat(&self.dir, name, Mode::S_IRWXU).doing(|| format!("making directory {}", path.display()));
        // What stands in the way says more.
        made.or_else(|error| Self::at(&path).and(Err(error)))?;
        Ok(Self { dir: self.open(name, OFlag::O_PATH | OFlag::O_DIRECTORY)?, path })
    }

    /// A new directory under `name`, or under another name if that is taken; open for reading, and the name.
    pub fn make_directory_beside(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        let name = self.beside(name, |name| mkdirat(&self.dir, name, Mode::S_IRWXU))?;
        Ok((self.open(&name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, name))
    }

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

    /// Takes the name of something that was made here away again.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        self.take_away(name, UnlinkatFlags::NoRemoveDir)
    }

    /// The same of a directory.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        self.take_away(name, UnlinkatFlags::RemoveDir)
    }

    fn take_away(&self, name: &OsStr, how: UnlinkatFlags) -> Result<()> {
        unlinkat(&self.dir, name, how).doing(|| format!("removing {} again", self.path.join(name).display()))
    }
}

/// Makes sure that what was made has no name any more.
pub fn is_gone(fd: impl AsFd, name: &Path) -> Result<()> {
    let stat = fstat(fd).doing(|| format!("stat of {}, made again", name.display()))?;
    match stat.st_nlink {
        0 => Ok(()),
        _ => Err(Error::os(format!("{}: somebody else has moved what was made there", name.display()), libc::EBUSY)),
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
        let (place, missing) = ParentDir::nearest(&path).unwrap();
        assert_eq!((place.path(), missing), (dir.path(), vec![OsStr::new("link"), OsStr::new("deep")]));
        assert!(place.make_directory(OsStr::new("link")).is_err());
        let (place, name) = ParentDir::of(&link).unwrap();
        assert_eq!(place.make_file(name).err(), Some(Errno::EEXIST));
        assert_eq!(place.make_fifo(name).unwrap().1, ".ckptfs-1");
        assert_eq!(std::fs::read_dir(&real).unwrap().count(), 0);
    }

    #[test]
    fn what_somebody_has_moved_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let (place, name) = ParentDir::of(&path).unwrap();
        let fd = place.make_file(name).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "another").unwrap();
        place.unlink(name).unwrap();
        assert_eq!(is_gone(&fd, &path).unwrap_err().kind(), Kind::System(libc::EBUSY));
        std::fs::remove_file(dir.path().join("moved")).unwrap();
        is_gone(&fd, &path).unwrap();
    }
}

//! Opening what an image names.

use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Error, Kind, Result};

/// Opens `path`, a name that an image holds; `flags`: O_* without O_CREAT, close-on-exec comes of itself.
///
/// The names that /proc tells hold no symbolic link, so none is followed (openat2(2), RESOLVE_NO_SYMLINKS): whoever owns a directory on
/// the way could have put one there since, and would be given by us, who may open anything, what it leads to.
///
/// # Errors
/// [`Kind::NotFound`] if the name is gone, ELOOP if a symbolic link stands on the way.
pub fn open_name(path: &Path, flags: i32) -> Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how).map_err(|errno| not_opened(path, errno as i32))
}

/// Why `path` could not be opened.
pub fn not_opened(path: &Path, errno: i32) -> Error {
    let path = path.display();
    match errno {
        libc::ENOENT => Error::os(format_args!("opening {path}"), errno).kind_is(Kind::NotFound),
        libc::ELOOP => Error::os(format_args!("opening {path}: a symbolic link stands there now"), errno),
        _ => Error::os(format_args!("opening {path}"), errno),
    }
}

/// Opens a terminal without making it ours.
pub fn open_terminal(path: &str) -> Result<OwnedFd> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|error| Error::io(format_args!("opening terminal {path}"), &error))
}

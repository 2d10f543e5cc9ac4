//! Opens files by the names in an image.

use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Doing, Kind, Result};

/// O_LARGEFILE as F_GETFL shows it (include/uapi/asm-generic/fcntl.h). open(2) always adds it, and
/// the C library's own constant is 0 on x86-64.
pub const O_LARGEFILE: i32 = 0o100_000;

/// Opens `path`, a name from an image. `flags` are O_* without O_CREAT. O_CLOEXEC is added.
///
/// The names that /proc shows hold no symbolic link, so none is followed (openat2(2),
/// RESOLVE_NO_SYMLINKS). The owner of a directory on the way could have put a link there since. The
/// daemon may open anything, and would hand the owner the link's target.
///
/// # Errors
/// [`Kind::NotFound`] if the name is gone, ELOOP if a symbolic link is on the way.
pub fn open_name(path: &Path, flags: i32) -> Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how).or_else(|errno| not_opened(path, errno))
}

/// The error of a `path` that could not be opened.
pub fn not_opened<T>(path: &Path, errno: Errno) -> Result<T> {
    let path = path.display();
    let failed = Err(errno);
    match errno {
        Errno::ENOENT => failed.doing(|| format!("opening {path}")).map_err(|error| error.kind_is(Kind::NotFound)),
        Errno::ELOOP => failed.doing(|| format!("opening {path}: a symbolic link stands there now")),
        _ => failed.doing(|| format!("opening {path}")),
    }
}

/// Opens a terminal without making it the controlling terminal of this daemon.
pub fn open_terminal(path: &Path) -> Result<OwnedFd> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map(OwnedFd::from)
        .doing(|| format!("opening terminal {}", path.display()))
}

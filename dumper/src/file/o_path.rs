//! Descriptors that only stand for a name in the file tree (open(2), O_PATH): for a file of any
//! type, a symbolic link included.

use std::fs::FileType;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{OPENING, ObservedFile, open_link, open_path};
use crate::kind::open_file::OpenFile;

/// Table row.
pub struct OPath;

/// What the name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OPathTarget {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device of this number.
    CharDevice(u64),
    /// A block device of this number.
    BlockDevice(u64),
}

/// The record.
#[derive(Serialize, Deserialize)]
pub struct OPathBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    what: OPathTarget,
    flags: i32,
}

impl OpenFile for OPath {
    type Body = OPathBody;
    const KIND: &'static str = "path";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        observed.flags & libc::O_PATH != 0
            && (observed.is_named() || !(observed.stat.is_file() || observed.stat.is_dir()))
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<OPathBody> {
        let name = observed.target.display().to_string();
        let what = what(observed.stat.file_type(), observed.stat.rdev());
        let kind = match what {
            Some(OPathTarget::Fifo) => "FIFO ",
            Some(OPathTarget::Socket) => "socket ",
            _ => "",
        };
        let what = what.filter(|_| observed.is_named());
        let what = what
            .ok_or_else(|| observed.refuse(format_args!("O_PATH descriptor of {kind}{name}, whose name is gone,")))?;
        let path = observed.target.clone().into_os_string().into_vec();
        Ok(OPathBody { path, name, what, flags: observed.flags & !OPENING })
    }

    fn restore(&self, body: OPathBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(body.path));
        // Without O_PATH the file itself would be opened, and opening a device has an effect.
        if body.flags & libc::O_PATH == 0 {
            return Err(Error::damaged(format!("{}: flags {:#o} without O_PATH", path.display(), body.flags)));
        }
        let file = open_path(&path, libc::O_PATH | libc::O_NOFOLLOW)?;
        let now = file.metadata().doing(|| format!("stat of {}", path.display()))?;
        if what(now.file_type(), now.rdev()) != Some(body.what) {
            let sentence = format!("{} is no longer {:?}, as at the dump", path.display(), body.what);
            return Err(Error::new(Kind::NotFound, sentence));
        }
        // Through /proc: this is the only way to open a symbolic link without O_NOFOLLOW among the
        // flags.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let follows = body.flags & libc::O_NOFOLLOW == 0;
        if follows { open_link(Path::new(&link), body.flags) } else { open_path(&path, body.flags) }.map(OwnedFd::from)
    }
}

fn what(kind: FileType, rdev: u64) -> Option<OPathTarget> {
    match () {
        () if kind.is_file() => Some(OPathTarget::File),
        () if kind.is_dir() => Some(OPathTarget::Directory),
        () if kind.is_symlink() => Some(OPathTarget::Symlink),
        () if kind.is_fifo() => Some(OPathTarget::Fifo),
        () if kind.is_socket() => Some(OPathTarget::Socket),
        () if kind.is_char_device() => Some(OPathTarget::CharDevice(rdev)),
        () if kind.is_block_device() => Some(OPathTarget::BlockDevice(rdev)),
        () => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

    #[test]
    fn a_symbolic_link_comes_back_and_nothing_else_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let file = open_path(&path, libc::O_PATH | libc::O_NOFOLLOW).unwrap();
        let observed = ObservedFile { flags: libc::O_PATH, ..observed(&file) };
        assert_eq!(observed.target, path);
        assert!(OPath.takes(&observed));
        let fd = OPath.restore(OPath.dump(&observed, &mut none()).unwrap(), &none()).unwrap();
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(std::fs::File::from(fd).metadata().unwrap().is_symlink() && flags & libc::O_NOFOLLOW == 0);
        let mut body = OPath.dump(&observed, &mut none()).unwrap();
        body.flags = libc::O_RDONLY | libc::O_NOFOLLOW;
        assert_eq!(OPath.restore(body, &none()).unwrap_err().kind(), Kind::Damaged);
        let body = OPath.dump(&observed, &mut none()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(OPath.restore(body, &none()).unwrap_err().kind(), Kind::NotFound);
    }
}

//! Handles that identify a file of a filesystem: open_by_handle_at(2).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chdir;

use crate::error::{Doing, Error, Kind, Result};

/// The most bytes of a handle (MAX_HANDLE_SZ).
const MOST: usize = 128;

/// A handle: its type and its bytes. Both belong to the filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHandle {
    /// Its type.
    pub kind: i32,
    /// Its bytes, at most 128.
    pub bytes: Vec<u8>,
}

/// struct file_handle, with room for the largest.
#[repr(C)]
struct Raw {
    len: u32,
    kind: i32,
    bytes: [u8; MOST],
}

/// The handle of the file that a link of /proc leads to. It identifies the file and cannot open it
/// (AT_HANDLE_FID).
pub fn of(link: &str) -> Result<FileHandle> {
    const AT_HANDLE_FID: i32 = 0x200;
    let doing = || format!("the file handle of {link}");
    let path = std::ffi::CString::new(link).map_err(std::io::Error::from).doing(doing)?;
    let mut handle = Raw { len: MOST as u32, kind: 0, bytes: [0; MOST] };
    let (mut mount, flags) = (0_i32, libc::AT_SYMLINK_FOLLOW | AT_HANDLE_FID);
    let (to, mount) = (&raw mut handle, &raw mut mount);
    // SAFETY: a NUL-terminated string, a live struct that holds its own size, and a live int.
    let got = unsafe { libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), to, mount, flags) };
    Errno::result(got).doing(doing)?;
    Ok(FileHandle { kind: handle.kind, bytes: handle.bytes[..(handle.len as usize).min(MOST)].to_vec() })
}

impl FileHandle {
    /// Finds the file on the filesystem that is mounted at `mountpoint`. The descriptor stands for
    /// its name only (O_PATH), and nobody notices the call: a thread enters the directory instead
    /// of opening it. Needs CAP_DAC_READ_SEARCH.
    ///
    /// # Errors
    /// ESTALE: the file is not there, or the handle is not one of this filesystem.
    pub fn find(&self, mountpoint: &Path) -> Result<OwnedFd> {
        let found = std::thread::scope(|scope| scope.spawn(|| self.find_here(mountpoint)).join());
        found.unwrap_or_else(|_| Err(Error::new(Kind::SnapshotLost, "a thread that looked for a file has ended")))
    }

    /// The same. It moves this thread.
    fn find_here(&self, mountpoint: &Path) -> Result<OwnedFd> {
        let doing = || format!("looking for a file on {} by its handle", mountpoint.display());
        if self.bytes.len() > MOST {
            return Err(Error::os(doing(), libc::EINVAL));
        }
        unshare(CloneFlags::CLONE_FS).doing(doing)?;
        chdir(mountpoint).doing(doing)?;
        let mut handle = Raw { len: self.bytes.len() as u32, kind: self.kind, bytes: [0; MOST] };
        handle.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: a live struct that holds the length of its bytes.
        let got = unsafe { libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, &raw mut handle, flags) };
        let fd = Errno::result(got).doing(doing)?;
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_found_by_its_handle() {
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let handle = of(&format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let found = handle.find(Path::new("/etc")).unwrap();
        assert_eq!(std::fs::File::from(found).metadata().unwrap().ino(), file.metadata().unwrap().ino());
        assert!(FileHandle { bytes: vec![1; 8], ..handle }.find(Path::new("/etc")).is_err());
        assert_ne!(std::env::current_dir().unwrap(), Path::new("/etc"));
    }
}

//! What inotify(7) has for checkpoints, and watches with bits that only the kernel knows.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use rustix::fs::inotify::{CreateFlags, init};

use crate::error::{Doing, Result};

// INOTIFY_IOC_SETNEXTWD of include/uapi/linux/inotify.h. The number is the argument itself.
nix::ioctl_write_int_bad!(inotify_ioc_setnextwd, nix::request_code_write!(b'I', 0, size_of::<i32>()));

/// Gives the next watch of an instance this number.
///
/// # Errors
/// ENOTTY: a kernel without CONFIG_CHECKPOINT_RESTORE.
pub fn set_next_watch(instance: RawFd, number: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    let got = unsafe { inotify_ioc_setnextwd(instance, number) };
    got.map(drop).doing(|| format!("watch {number} of an inotify instance (INOTIFY_IOC_SETNEXTWD)"))
}

/// Whether this kernel lets the number be set.
pub fn can_set_next_watch() -> Result<()> {
    let instance = init(CreateFlags::CLOEXEC).doing(|| "making an inotify instance")?;
    set_next_watch(instance.as_raw_fd(), 1)
}

/// inotify_add_watch(2): gives the number of the watch.
pub fn add_watch(instance: RawFd, path: &str, mask: u32) -> Result<i32> {
    let doing = || format!("watching {path} with mask {mask:#x}");
    let name = std::ffi::CString::new(path).map_err(std::io::Error::from).doing(doing)?;
    // SAFETY: a NUL-terminated string.
    Errno::result(unsafe { libc::inotify_add_watch(instance, name.as_ptr(), mask) }).doing(doing)
}

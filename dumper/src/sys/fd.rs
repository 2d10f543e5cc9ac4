//! What a duplicate of another process's descriptor (pidfd_getfd(2)) shows of an open file
//! description.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::error::{Doing, Result};

/// What an open file description signals: fcntl(2), "Managing signals".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigioOwner {
    /// F_OWNER_*.
    pub kind: i32,
    /// A thread, process or group, as this pid namespace numbers them. 0 for none, and for one that
    /// is gone.
    pub id: i32,
    /// F_GETSIG; 0 is SIGIO without a siginfo.
    pub signal: i32,
    /// User id of the process that set the owner.
    pub uid: u32,
    /// Effective user id of the process that set the owner.
    pub euid: u32,
}

/// F_GETOWN_EX, F_GETSIG, F_GETOWNER_UIDS.
pub fn owner(fd: &OwnedFd) -> Result<SigioOwner> {
    let (mut owner, mut ids) = ([0_i32; 2], [0_u32; 2]);
    // SAFETY: the kernel writes a struct of two ints into a live array of two.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) }).doing(|| "F_GETOWN_EX")?;
    // SAFETY: no memory is passed.
    let signal = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) }).doing(|| "F_GETSIG")?;
    // SAFETY: the kernel writes two ids into a live array of two.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWNER_UIDS, ids.as_mut_ptr()) })
        .doing(|| "F_GETOWNER_UIDS")?;
    Ok(SigioOwner { kind: owner[0], id: owner[1], signal, uid: ids[0], euid: ids[1] })
}

/// F_SETFL: the flags of a description that can be changed, fcntl(2).
pub fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    let set = FcntlArg::F_SETFL(OFlag::from_bits_retain(flags));
    fcntl(fd, set).map(drop).doing(|| format!("F_SETFL {flags:#o}"))
}

/// FIONREAD: bytes that wait to be read (of a pipe through either end, pipe(7)).
pub fn readable(fd: &OwnedFd) -> Result<u64> {
    let mut bytes: i32 = 0;
    // SAFETY: the kernel writes one int into a live local.
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(got).map(|_| u64::from(bytes.cast_unsigned())).doing(|| "FIONREAD")
}

/// Sets a descriptor's offset (lseek(2) SEEK_SET).
pub fn seek(fd: &OwnedFd, position: u64) -> Result<()> {
    // SAFETY: no memory is passed.
    let got = unsafe { libc::lseek(fd.as_raw_fd(), position.cast_signed(), libc::SEEK_SET) };
    Errno::result(got).map(drop).doing(|| format!("lseek to {position}"))
}

const F_GETSIG: i32 = 11;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;

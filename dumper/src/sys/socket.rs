//! What a socket says of itself, socket(7).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Doing, Result};

/// The value of an option of SOL_SOCKET that is one number.
pub fn number(socket: &OwnedFd, option: i32) -> Result<i32> {
    let mut value: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes into a live local of that size.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len) };
    Errno::result(got).doing(|| format!("getsockopt {option}"))?;
    Ok(value)
}

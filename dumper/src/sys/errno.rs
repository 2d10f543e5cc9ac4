//! Raw return values of system calls (`-4095..=-1` is an error, Documentation of the x86-64 syscall
//! ABI).

use crate::error::{Error, Result};

/// The kernel's private "restart me" values, include/linux/errno.h; they show in `rax` of a stopped
/// tracee only.
pub mod restart {
    /// Restart if the handler has SA_RESTART.
    pub const SYS: i64 = -512;
    /// Restart always.
    pub const NOINTR: i64 = -513;
    /// Restart if no handler ran.
    pub const NOHAND: i64 = -514;
    /// Restart through `restart_syscall`: what is left of the time is in the kernel.
    pub const BLOCK: i64 = -516;
}

/// The errno in a raw result, if it is one.
pub fn errno(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then_some(-result as i32)
}

/// A raw result as a `Result`; `doing` runs on failure only.
pub fn check<D: std::fmt::Display>(result: i64, doing: impl FnOnce() -> D) -> Result<u64> {
    match errno(result) {
        Some(errno) => Err(Error::os(doing(), errno)),
        None => Ok(result as u64),
    }
}

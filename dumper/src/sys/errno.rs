//! Raw return values of system calls (`-4095..=-1` is an error, Documentation of the x86-64 syscall
//! ABI).

use crate::error::{Error, Result};

/// The kernel's private "restart me" values, include/linux/errno.h. They appear only in `rax` of a
/// stopped tracee.
pub mod restart {
    /// Restart if the handler has SA_RESTART.
    pub const SYS: i64 = -512;
    /// Restart always.
    pub const NOINTR: i64 = -513;
    /// Restart if no handler ran.
    pub const NOHAND: i64 = -514;
    /// Restart through `restart_syscall`. The kernel has the remaining time.
    pub const BLOCK: i64 = -516;
}

/// The errno in a raw result, if it is one.
pub fn errno(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then_some(-result as i32)
}

/// A raw result as a `Result`. `doing` runs on failure only.
pub fn check<D: std::fmt::Display>(result: i64, doing: impl FnOnce() -> D) -> Result<u64> {
    match errno(result) {
        Some(errno) => Err(Error::os(doing(), errno)),
        None => Ok(result as u64),
    }
}

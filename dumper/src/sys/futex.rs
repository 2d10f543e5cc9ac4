//! get_robust_list(2).

use nix::errno::Errno;

use crate::error::{Doing, Result};
use crate::sys::pid::Pid;

/// get_robust_list(2): head and length.
pub fn robust_list(tid: Pid) -> Result<(u64, u64)> {
    let (mut head, mut len) = (0_u64, 0_u64);
    // SAFETY: both pointers are live locals of pointer width.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    Errno::result(got).map(|_| (head, len)).doing(|| format!("task {tid}: get_robust_list"))
}

//! What timerfd(2) has for checkpoints alone.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use crate::error::{Doing, Result};

// TFD_IOC_SET_TICKS of include/uapi/linux/timerfd.h.
nix::ioctl_write_ptr!(tfd_ioc_set_ticks, b'T', 0, u64);

/// Sets the number of expirations that no read has taken yet. It must not be 0.
///
/// # Errors
/// ENOTTY: a kernel without CONFIG_CHECKPOINT_RESTORE.
pub fn set_ticks(timer: &OwnedFd, ticks: u64) -> Result<()> {
    // SAFETY: the descriptor is open, and the number is live.
    unsafe { tfd_ioc_set_ticks(timer.as_raw_fd(), &raw const ticks) }
        .map(drop)
        .doing(|| format!("the {ticks} expirations of a timerfd (TFD_IOC_SET_TICKS)"))
}

/// Whether this kernel lets the number be set.
pub fn can_set_ticks() -> Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).doing(|| "making a timerfd")?;
    set_ticks(&timer, 1)
}

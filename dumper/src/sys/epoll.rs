//! What epoll(7) has for network devices that are polled: ioctl_eventpoll(2).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Doing, Result};

/// struct epoll_params of include/uapi/linux/eventpoll.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long it polls network devices before it sleeps, in microseconds.
    pub microseconds: u32,
    /// How many packets it takes at a time. More than 64 need CAP_NET_ADMIN.
    pub budget: u16,
    /// Whether interrupts of the devices are put off (SO_PREFER_BUSY_POLL).
    pub prefer: u8,
    padding: u8,
}

impl BusyPoll {
    /// The parameters.
    pub fn new(microseconds: u32, budget: u16, prefer: bool) -> Self {
        Self { microseconds, budget, prefer: u8::from(prefer), padding: 0 }
    }
}

nix::ioctl_write_ptr!(epiocsparams, 0x8a, 1, BusyPoll);
nix::ioctl_read!(epiocgparams, 0x8a, 2, BusyPoll);

/// EPIOCGPARAMS. A kernel without it polls no devices.
pub fn busy_poll(epoll: &OwnedFd) -> Result<BusyPoll> {
    let mut params = BusyPoll::default();
    // SAFETY: the descriptor is open, and the kernel writes the struct, a live local.
    match unsafe { epiocgparams(epoll.as_raw_fd(), &raw mut params) } {
        Err(Errno::ENOTTY | Errno::EINVAL) => Ok(BusyPoll::default()),
        got => got.map(|_| params).doing(|| "EPIOCGPARAMS"),
    }
}

/// EPIOCSPARAMS.
///
/// # Errors
/// EPERM: a budget of more than 64 packets without CAP_NET_ADMIN.
pub fn set_busy_poll(epoll: &OwnedFd, params: &BusyPoll) -> Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads a live struct.
    unsafe { epiocsparams(epoll.as_raw_fd(), params) }.map(drop).doing(|| format!("EPIOCSPARAMS {params:?}"))
}

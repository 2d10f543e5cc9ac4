//! Names of signals, signal(7), and signals that are read from a descriptor, signalfd(2).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::error::{Doing, Result};

/// SIGRTMIN of the C library, which keeps the first two real-time signals for itself.
const RTMIN: i32 = 34;

/// The name of a signal for a sentence: "SIGTERM", "SIGRTMIN+3".
pub fn name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if signal == RTMIN => "SIGRTMIN".to_owned(),
        Err(_) if signal > RTMIN && signal <= 64 => format!("SIGRTMIN+{}", signal - RTMIN),
        Err(_) => format!("signal {signal}"),
    }
}

/// A new signalfd(2) for the signals of `mask` (bit 0 is signal 1). The kernel's own call, because
/// that of the C library leaves out the real-time signals that it keeps for itself.
pub fn signalfd(mask: u64) -> Result<OwnedFd> {
    let size = size_of::<u64>();
    // SAFETY: `mask` is a live local of that size.
    let made = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size, libc::SFD_CLOEXEC) };
    let made = Errno::result(made).doing(|| format!("making a signalfd for {mask:#x}"))?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kill_1() {
        let shown = [9, 34, 37, 64, 32, 0, 70].map(name);
        assert_eq!(shown, ["SIGKILL", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMIN+30", "signal 32", "signal 0", "signal 70"]);
    }
}

//! The controlling terminal of a session, and its foreground group.

use std::os::fd::AsRawFd;

use crate::error::{Error, Result};
use crate::sys::pid::Pid;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::{open, tty};

/// Makes a terminal the controlling terminal of the session that `process` leads: TIOCSCTTY of
/// ioctl_tty(2).
///
/// # Errors
/// EPERM: another session has it by now. Taking it away would harm the shell in that session.
pub fn take_terminal(pid: Pid, device: u32, channel: &Channel, process: &mut Owned) -> Result<()> {
    with_terminal(pid, device, channel, process, |number, path, calls| {
        let doing = format!("pid {pid}: making {path} its controlling terminal");
        calls.call(libc::SYS_ioctl, [number, libc::TIOCSCTTY, 0], doing);
    })
}

/// Puts a process group of its session into the foreground of its controlling terminal: TIOCSPGRP
/// of ioctl_tty(2).
pub fn set_foreground(pid: Pid, device: u32, group: Pid, channel: &Channel, process: &mut Owned) -> Result<()> {
    with_terminal(pid, device, channel, process, |number, path, calls| {
        let at = calls.put(&group.to_le_bytes());
        let doing = format!("pid {pid}: putting group {group} into the foreground of {path}");
        calls.call(libc::SYS_ioctl, [number, libc::TIOCSPGRP, at.0], doing);
    })
}

fn with_terminal(
    pid: Pid,
    device: u32,
    channel: &Channel,
    process: &mut Owned,
    work: impl FnOnce(u64, &str, &mut Checked),
) -> Result<()> {
    let path = tty::path(u64::from(device)).ok_or_else(|| {
        let (major, minor) = (libc::major(u64::from(device)), libc::minor(u64::from(device)));
        Error::unsupported(format!("pid {pid}: controlling terminal {major}:{minor} cannot be restored"))
    })?;
    let file = open::open_terminal(&path)?;
    let numbers = channel.push(process, &[file.as_raw_fd()])?;
    let number = numbers.first().copied().unwrap_or(-1) as u64;
    let mut calls = Checked::new(process.scratch());
    work(number, &path, &mut calls);
    calls.call(libc::SYS_close, [number], "closing the terminal");
    calls.flush(process)
}

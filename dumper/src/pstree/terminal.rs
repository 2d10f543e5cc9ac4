//! The controlling terminal of a session, and its foreground group.

use std::fs::{self, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::options::TerminalRule;
use crate::pstree::outside_terminal::{OutsideTerminal, SessionLeader, is_opened_again, opened_again};
use crate::pstree::record::Process;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::remote::checked::Checked;
use crate::sys::remote::owned::Owned;
use crate::sys::remote::scm_rights::Channel;
use crate::sys::{open, tty};

/// What becomes of the terminals and of the session outside of a tree.
#[derive(Clone, Debug, Default)]
pub struct Terminals {
    /// What happens about those whose other end is outside.
    pub rule: TerminalRule,
    /// The terminal that takes the place of all.
    pub instead: Option<PathBuf>,
    /// The session that processes come into whose session is outside. It is that of the restorer.
    /// Otherwise they get new sessions.
    pub session: Option<Pid>,
}

/// What an image has of a controlling terminal. Its session is in the tree. `None`: it has no name.
pub fn node_of(device: u32) -> Result<Option<OutsideTerminal>> {
    let facts = tty::path(u64::from(device)).and_then(|path| fs::metadata(path).ok());
    facts.map(|facts| OutsideTerminal::of(&facts, None)).transpose()
}

/// Makes its terminal the controlling one of the session that `process` leads: TIOCSCTTY of
/// ioctl_tty(2). Does nothing if it has none, or if terminals are left out.
///
/// # Errors
/// EPERM: another session has it by now. Taking it away would harm the shell in that session.
/// [`Kind::NotFound`]: it is not the same terminal, or none may be opened again.
pub fn take_terminal(process: &Process, terminals: &Terminals, channel: &Channel, leader: &mut Owned) -> Result<()> {
    let pid = process.pid;
    let Some((device, path, file)) = terminal_of(process, terminals)? else { return Ok(()) };
    let doing = format!("pid {pid}: making {path} its controlling terminal");
    let taken = with_terminal(&file, channel, leader, |number, calls| {
        calls.call(libc::SYS_ioctl, [number, libc::TIOCSCTTY, 0], doing.as_str());
    });
    taken.map_err(|error| match owner(device).filter(|_| error.errno() == Some(libc::EPERM)) {
        Some((owner, name)) => {
            let what = format!("{doing}: another session has it by now, that of pid {owner} ({name})");
            Error::new(Kind::System(libc::EPERM), what)
        }
        None => error,
    })
}

/// Puts a process group of its session into the foreground of its controlling terminal: TIOCSPGRP
/// of ioctl_tty(2).
pub fn set_foreground(
    process: &Process,
    group: Pid,
    terminals: &Terminals,
    channel: &Channel,
    leader: &mut Owned,
) -> Result<()> {
    let pid = process.pid;
    let Some((_, path, file)) = terminal_of(process, terminals)? else { return Ok(()) };
    with_terminal(&file, channel, leader, |number, calls| {
        let at = calls.put(&group.to_le_bytes());
        let doing = format!("pid {pid}: putting group {group} into the foreground of {path}");
        calls.call(libc::SYS_ioctl, [number, libc::TIOCSPGRP, at.0], doing);
    })
}

/// The controlling terminal of a session leader: its device, its name, and a descriptor of it.
fn terminal_of(process: &Process, terminals: &Terminals) -> Result<Option<(u64, String, OwnedFd)>> {
    let Some(device) = process.terminal.map(u64::from) else { return Ok(None) };
    if let Some(path) = &terminals.instead {
        return Ok(Some((device, path.display().to_string(), open::open_terminal(path)?)));
    }
    let pid = process.pid;
    let path = tty::path(device).ok_or_else(|| {
        let (major, minor) = (libc::major(device), libc::minor(device));
        Error::unsupported(format!("pid {pid}: controlling terminal {major}:{minor} cannot be restored"))
    })?;
    let is_it = |now: Option<&Metadata>| {
        // Its session is that of the process, which begins anew.
        is_opened_again(terminals.rule, &path, process.terminal_node.as_ref(), device, now, &|_| true)
    };
    let Some(file) = opened_again(Path::new(&path), is_it, || open::open_terminal(Path::new(&path)))? else {
        return Ok(None);
    };
    Ok(Some((device, path, file)))
}

/// The leader of the session that a terminal controls.
fn owner(device: u64) -> Option<(Pid, String)> {
    let pids = proc::numbers("/proc").unwrap_or_default();
    pids.into_iter().find_map(|pid| SessionLeader::of(pid, device)).map(SessionLeader::into_name)
}

fn with_terminal(
    file: &OwnedFd,
    channel: &Channel,
    process: &mut Owned,
    work: impl FnOnce(u64, &mut Checked),
) -> Result<()> {
    let numbers = channel.push(process, &[file.as_raw_fd()])?;
    let number = numbers.first().copied().unwrap_or(-1) as u64;
    let mut calls = Checked::new(process.scratch());
    work(number, &mut calls);
    calls.call(libc::SYS_close, [number], "closing the terminal");
    calls.flush(process)
}

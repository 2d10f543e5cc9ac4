//! Who is there: processes with their parents, groups and sessions, and their threads. The first record of an image.

use std::os::fd::AsRawFd;

use serde::{Deserialize, Serialize};

use super::attribute::Checked;
use crate::image::{Record, Tag};
use crate::sys::remote::Owned;
use crate::sys::scm::Channel;
use crate::{Error, Pid, Result};

/// The record's tag.
pub const TAG: Tag = Tag(*b"TREE");

/// The record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// The root first, parents before children.
    pub processes: Vec<Process>,
    /// The kernel that wrote it (uname -r): a vDSO fits only its own.
    pub kernel: String,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id; that of the root is not in the image.
    pub ppid: Pid,
    /// Its process group.
    pub pgid: Pid,
    /// Its session.
    pub sid: Pid,
    /// Its threads, the leader first.
    pub threads: Vec<Pid>,
    /// Stopped by job control with this signal.
    pub stopped_by: Option<i32>,
    /// The controlling terminal's device number, if it leads a session with one.
    pub terminal: Option<u32>,
}

impl Tree {
    /// Reads the record and refuses what cannot be: no process, no leader, ids that are no ids or occur twice.
    pub fn parse(record: &Record) -> Result<Self> {
        let tree: Self = record.body()?;
        let mut seen = std::collections::BTreeSet::new();
        for process in &tree.processes {
            if process.threads.first() != Some(&process.pid) {
                return Err(Error::damaged(format!("process {} does not begin with its leader", process.pid)));
            }
            for tid in &process.threads {
                if *tid < 1 || !seen.insert(*tid) {
                    return Err(Error::damaged(format!("task id {tid} is no id or occurs twice")));
                }
            }
        }
        match tree.processes.len() {
            0 => Err(Error::damaged("an image without a process")),
            1 => Ok(tree),
            n => Err(Error::unsupported(format!("an image of {n} processes cannot be restored yet"))),
        }
    }
}

/// Makes a terminal the controlling one of the session that `process` leads: TIOCSCTTY, ioctl_tty(2).
///
/// # Errors
/// EPERM: it is another session's by now. Stealing it would harm the shell there.
pub fn take_terminal(pid: Pid, device: u32, channel: &Channel, process: &mut Owned) -> Result<()> {
    let (major, minor) = (libc::major(u64::from(device)), libc::minor(u64::from(device)));
    let path = match major {
        136..=143 => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("/dev/tty{minor}"),
        4 => format!("/dev/ttyS{}", minor - 64),
        _ => {
            return Err(Error::unsupported(format!(
                "pid {pid}: controlling terminal {major}:{minor} cannot be restored"
            )));
        }
    };
    let file = crate::sys::fd::open_terminal(&path)?;
    let numbers = channel.push(process, &[file.as_raw_fd()])?;
    let number = numbers.first().copied().unwrap_or(-1) as u64;
    let mut calls = Checked::new(process.scratch());
    let doing = format!("pid {pid}: making {path} its controlling terminal");
    calls.call(libc::SYS_ioctl, [number, libc::TIOCSCTTY, 0], doing);
    calls.call(libc::SYS_close, [number], "closing the terminal");
    calls.flush(process)
}

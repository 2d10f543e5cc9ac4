//! `ckptfs restore --attach`: one terminal takes the place of those that the tree had, and the tree
//! comes to its foreground.
//!
//! There are two ways, because a session cannot be entered, only inherited, and because it has one
//! controlling terminal (credentials(7)). A job whose session is outside, such as vim from a shell,
//! is made in the caller's session with a process group of its own, as the shell itself would have
//! made it: ^C and ^Z come from the terminal, and no byte is copied. A tree with its own session
//! cannot share the terminal that controls the caller's. It gets a new pseudo-terminal, and the
//! caller copies bytes between the two.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::getsid;
use rustix::termios::{tcgetwinsize, tcsetpgrp, tcsetwinsize};

use crate::error::{Doing, Error, Result};
use crate::pstree::record::{Process, Tree};
use crate::restore::outcome::Attached;
use crate::sys::pid::Pid;
use crate::sys::tty::TerminalState;
use crate::sys::{open, tty};

/// What takes the place of the terminals of a tree.
pub struct CallerTerminal {
    path: PathBuf,
    file: OwnedFd,
    way: Way,
}

enum Way {
    /// The terminal of the caller itself, which controls this session.
    Session(Pid),
    /// The slave of this master.
    Relay(Arc<OwnedFd>),
}

impl CallerTerminal {
    /// Decides how the tree gets the terminal `path` of the caller.
    ///
    /// # Errors
    /// The tree has several sessions with a controlling terminal.
    pub fn new(tree: &Tree, path: &Path) -> Result<Self> {
        let controlled: Vec<&Process> = tree.processes.iter().filter(|process| process.terminal.is_some()).collect();
        let file = open::open_terminal(&path.display().to_string())?;
        match controlled.as_slice() {
            [] => {
                let session = getsid(None).doing(|| "asking for the session of the restore")?.as_raw();
                Ok(Self { path: path.to_owned(), file, way: Way::Session(session) })
            }
            [_] => {
                let pty = tty::open_pty()?;
                let size = tcgetwinsize(&file).doing(|| format!("window size of {}", path.display()))?;
                tcsetwinsize(&pty.slave, size).doing(|| format!("window size of {}", pty.path.display()))?;
                Ok(Self { path: pty.path, file: pty.slave, way: Way::Relay(Arc::new(pty.master)) })
            }
            [one, other, ..] => Err(Error::unsupported(format!(
                "the sessions of pid {} and pid {} have a controlling terminal each, and --attach gives only one",
                one.pid, other.pid
            ))),
        }
    }

    /// What the processes open in the place of their terminals.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The caller's session, if the processes whose session is outside come into that.
    pub fn session(&self) -> Option<Pid> {
        match self.way {
            Way::Session(session) => Some(session),
            Way::Relay(_) => None,
        }
    }

    /// Gives the terminal the settings that the tree had, and in the caller's session puts the job
    /// into its foreground. It is called while all processes are still stopped: one of them that
    /// read too early would be stopped by SIGTTIN.
    pub fn hand_over(&self, tree: &Tree, state: Option<TerminalState>) -> Result<Attached> {
        let shown = self.path.display();
        let root = tree.processes.first().ok_or_else(|| Error::damaged("an image without a process"))?;
        let own = tree.group(root);
        let foreground = state.as_ref().and_then(|state| state.foreground);
        let in_front = tree.processes.iter().find(|process| foreground == Some(process.pgid));
        // While a job is stopped, the settings are those of its shell.
        if let Some(state) = state.filter(|state| state.foreground.is_none() || in_front.is_some()) {
            state.settings.apply(&self.file)?;
        }
        let Way::Relay(master) = &self.way else {
            let group = in_front.map_or(own, |process| tree.group(process));
            let pid =
                rustix::process::Pid::from_raw(group).ok_or_else(|| Error::damaged("a group without a number"))?;
            tcsetpgrp(&self.file, pid).doing(|| format!("putting group {group} into the foreground of {shown}"))?;
            return Ok(Attached { group: own, master: None });
        };
        Ok(Attached { group: own, master: Some(Arc::clone(master)) })
    }
}

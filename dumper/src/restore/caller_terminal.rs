//! `ckptfs restore --attach`: one terminal takes the place of the one that the tree had, and the
//! tree comes to its foreground.
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

use nix::unistd::{Uid, fchown, getsid};
use rustix::process::{Pid as Group, getpgrp};
use rustix::termios::{tcgetpgrp, tcgetwinsize, tcsetpgrp, tcsetwinsize};

use crate::error::{Doing, Error, Kind, Result};
use crate::pstree::record::Tree;
use crate::restore::outcome::InForeground;
use crate::restore::pending::PendingRecords;
use crate::sys::pid::Pid;
use crate::sys::tty::{Pty, TerminalState};
use crate::sys::{open, tty};
use crate::task::creds;

/// What takes the place of the terminal of a tree.
pub struct CallerTerminal {
    /// That of the caller.
    path: PathBuf,
    file: OwnedFd,
    way: Way,
}

enum Way {
    /// The terminal of the caller itself, which controls this session.
    Session(Pid),
    /// A new terminal, in the place of this device, which controls the session of the tree.
    Relay(Arc<Pty>, u64),
}

impl CallerTerminal {
    /// Decides how the tree gets the terminal `path` of the caller.
    ///
    /// # Errors
    /// The tree has several sessions with a controlling terminal, or its root leads one without.
    pub fn new(tree: &Tree, path: &Path) -> Result<Self> {
        let mut controlled = tree.processes.iter().filter_map(|process| Some((process, process.terminal?)));
        let file = open::open_terminal(path)?;
        let path = path.to_owned();
        match (controlled.next(), controlled.next()) {
            (None, _) => {
                if let Some(root) = tree.processes.first().filter(|root| root.sid == root.pid) {
                    return Err(Error::unsupported(format!(
                        "pid {} leads a session without a terminal, as a daemon does, and --attach gives it none",
                        root.pid
                    )));
                }
                let session = getsid(None).doing(|| "asking for the session of the restore")?.as_raw();
                Ok(Self { path, file, way: Way::Session(session) })
            }
            (Some((_, device)), None) => {
                let pty = tty::open_pty()?;
                let size = tcgetwinsize(&file).doing(|| format!("window size of {}", path.display()))?;
                tcsetwinsize(&pty.slave, size).doing(|| format!("window size of {}", pty.path.display()))?;
                Ok(Self { path, file, way: Way::Relay(Arc::new(pty), u64::from(device)) })
            }
            (Some((one, _)), Some((other, _))) => Err(Error::unsupported(format!(
                "the sessions of pid {} and pid {} have a controlling terminal each, and --attach gives only one",
                one.pid, other.pid
            ))),
        }
    }

    /// What the processes open in the place of their terminal.
    pub fn path(&self) -> &Path {
        match &self.way {
            Way::Session(_) => &self.path,
            Way::Relay(pty, _) => &pty.path,
        }
    }

    /// What is known of the terminal that it replaces.
    pub fn replaced(&self) -> ReplacedTerminal {
        match &self.way {
            Way::Session(_) => ReplacedTerminal::default(),
            Way::Relay(_, device) => {
                let name = tty::path(*device).unwrap_or_else(|| "the controlling terminal".to_owned());
                ReplacedTerminal { terminal: Some((*device, name)), state: None }
            }
        }
    }

    /// The caller's session, if the processes whose session is outside come into that.
    pub fn session(&self) -> Option<Pid> {
        match self.way {
            Way::Session(session) => Some(session),
            Way::Relay(..) => None,
        }
    }

    /// Gives the terminal the settings that the tree had, and in the caller's session puts the job
    /// into its foreground. It is called while all processes are still stopped: one of them that
    /// read too early would be stopped by SIGTTIN.
    ///
    /// # Errors
    /// EIO: the caller has been put into the background. The terminal is another's by now.
    pub fn hand_over(
        &self,
        tree: &Tree,
        state: Option<TerminalState>,
        pending: &PendingRecords,
    ) -> Result<InForeground> {
        let shown = self.path.display();
        if tcgetpgrp(&self.file).doing(|| format!("foreground of {shown}"))? != getpgrp() {
            let what = "--attach: this command is no longer in the foreground of its terminal";
            return Err(Error::new(Kind::System(libc::EIO), what));
        }
        let root = tree.processes.first().ok_or_else(|| Error::damaged("an image without a process"))?;
        let own = tree.group(root);
        let foreground = state.as_ref().and_then(|state| state.foreground);
        let in_front = tree.processes.iter().find(|process| foreground == Some(process.pgid));
        // While a job is stopped, the settings are those of its shell.
        let state = state.filter(|state| state.foreground.is_none() || in_front.is_some());
        let give_settings = |to: &OwnedFd| state.map_or(Ok(()), |state| state.settings.apply(to));
        match &self.way {
            Way::Session(_) => {
                give_settings(&self.file)?;
                let group = in_front.map_or(own, |process| tree.group(process));
                let pid = Group::from_raw(group).ok_or_else(|| Error::damaged("a group without a number"))?;
                tcsetpgrp(&self.file, pid).doing(|| format!("putting group {group} into the foreground of {shown}"))?;
                Ok(InForeground { group: own, pty: None })
            }
            Way::Relay(pty, _) => {
                give_settings(&pty.slave)?;
                let credentials = pending.required(root.pid, root.representative(), creds::TAG)?;
                let (uid, _) = creds::real_ids(&credentials.into())?;
                // As login(1) does: its programs may open it by name. The group is that of tty(5).
                fchown(&pty.slave, Some(Uid::from_raw(uid)), None)
                    .doing(|| format!("giving {} to user {uid}", pty.path.display()))?;
                Ok(InForeground { group: own, pty: Some(Arc::clone(pty)) })
            }
        }
    }
}

/// The terminal of a tree whose place another one takes.
#[derive(Default)]
pub struct ReplacedTerminal {
    /// Its device and its name, as soon as they are known.
    terminal: Option<(u64, String)>,
    /// How the tree has left it.
    state: Option<TerminalState>,
}

impl ReplacedTerminal {
    /// The tree has this terminal.
    ///
    /// # Errors
    /// It has another one too: a program that has two shows something else on each.
    pub fn add(&mut self, device: u64, name: &str, state: Option<TerminalState>) -> Result<()> {
        let (known, known_name) = self.terminal.get_or_insert_with(|| (device, name.to_owned()));
        if *known != device {
            return Err(Error::unsupported(format!(
                "terminals {known_name} and {name} are both in the image, and --attach gives only one"
            )));
        }
        self.state = self.state.take().or(state);
        Ok(())
    }

    /// How the tree has left it.
    pub fn state(&self) -> Option<&TerminalState> {
        self.state.as_ref()
    }
}

//! A job in the foreground: its stops, its end, and the signals that this command gets for it.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use ckptfs_dumper::terminal::Settings;
use ckptfs_dumper::{Attached, Doing, Pid, Result};
use nix::sys::signal::{Signal, kill, raise};
use rustix::process::{WaitOptions, WaitStatus, waitpid};
use rustix::termios::{tcgetpgrp, tcsetwinsize};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::cli::attach::relay::Relay;
use crate::cli::attach::terminal::CallersTerminal;

/// Signals that are passed on to the job.
const PASSED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// A tree that was brought to the terminal.
pub struct Job<'a> {
    root: Pid,
    /// The process group of the root.
    group: Pid,
    terminal: &'a CallersTerminal,
    signals: Signals,
    way: Way,
}

/// How the job has the terminal.
enum Way {
    /// In the session of this command. While the job is stopped: the group that was in the
    /// foreground, and its settings.
    Session(Option<(Pid, Settings)>),
    /// By a pseudo-terminal of its own.
    Relay { master: Arc<OwnedFd>, relay: Relay },
}

impl<'a> Job<'a> {
    /// The job of `root`. It runs already.
    pub fn new(root: Pid, attached: Attached, terminal: &'a CallersTerminal) -> Result<Self> {
        let all = PASSED.into_iter().chain([SIGCHLD, SIGCONT, SIGWINCH]);
        let signals = Signals::new(all).doing(|| "catching signals")?;
        let way = match attached.master {
            None => Way::Session(None),
            Some(master) => {
                terminal.make_raw()?;
                let relay = Relay::start(Arc::clone(&master), terminal)?;
                Way::Relay { master, relay }
            }
        };
        Ok(Self { root, group: attached.group, terminal, signals, way })
    }

    /// Tells the job that it is in the foreground, as a shell does, and that the window is another
    /// one; then waits for its end. Returns the exit status that a shell would show.
    pub fn wait(mut self) -> Result<ExitCode> {
        self.signal(self.group, Signal::SIGCONT);
        self.resized()?;
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            let root = rustix::process::Pid::from_raw(self.root);
            let polled = waitpid(root, options).doing(|| format!("pid {}: waiting for it", self.root))?;
            if let Some((_, status)) = polled {
                if let Some(code) = exit_code(status) {
                    self.finish();
                    return Ok(code);
                }
                if let (Some(signal), Way::Session(_)) = (status.stopping_signal(), &self.way) {
                    self.stopped(signal)?;
                }
                continue;
            }
            let pending: Vec<i32> = self.signals.wait().collect();
            for signal in pending {
                match signal {
                    SIGCHLD => {}
                    SIGCONT => self.continued()?,
                    SIGWINCH => self.resized()?,
                    signal => self.signal(self.group, Signal::try_from(signal).unwrap_or(Signal::SIGTERM)),
                }
            }
        }
    }

    /// The job was stopped. This command stops too, so that the shell takes the terminal. It goes
    /// on with SIGCONT.
    fn stopped(&mut self, signal: i32) -> Result<()> {
        let from_background = [libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
        let kept = (self.terminal.foreground()?, self.terminal.settings()?);
        let Way::Session(left) = &mut self.way else { return Ok(()) };
        if !self.terminal.is_ours()? {
            // While it was in the background, the foreground is the shell's.
            left.get_or_insert(kept);
        }
        // It may have been put into the foreground since it was continued in the background.
        if !(from_background && self.terminal.is_ours()?) {
            self.terminal.take_back();
            // In an orphaned group, which nobody would continue, this does nothing (signal(7)).
            raise(Signal::SIGTSTP).doing(|| "stopping")?;
        }
        self.continued()?;
        self.signal(self.group, Signal::SIGCONT);
        Ok(())
    }

    /// This command goes on. In the foreground it lends the terminal again; `bg` leaves the job in
    /// the background.
    fn continued(&mut self) -> Result<()> {
        if let Way::Session(left) = &mut self.way
            && self.terminal.is_ours()?
            && let Some((group, settings)) = left.take()
        {
            self.terminal.lend(group, &settings)?;
            self.signal(self.group, Signal::SIGCONT);
        }
        Ok(())
    }

    /// The window has another size, or is another one.
    fn resized(&self) -> Result<()> {
        let foreground = match &self.way {
            Way::Session(_) => self.terminal.foreground()?,
            Way::Relay { master, .. } => {
                tcsetwinsize(master, self.terminal.size()?).doing(|| "the size of the window")?;
                // None while the tree has no foreground group.
                tcgetpgrp(master).map_or(self.group, |group| group.as_raw_nonzero().get())
            }
        };
        self.signal(foreground, Signal::SIGWINCH);
        Ok(())
    }

    /// Signals a process group. That it has ended is seen elsewhere.
    fn signal(&self, group: Pid, signal: Signal) {
        let _ = kill(nix::unistd::Pid::from_raw(-group), signal);
    }

    fn finish(self) {
        if let Way::Relay { master, relay } = self.way {
            relay.finish(&master);
        }
    }
}

/// 128 and the number of the signal that has killed it, as in a shell. `None`: it has not ended.
fn exit_code(status: WaitStatus) -> Option<ExitCode> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
    Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

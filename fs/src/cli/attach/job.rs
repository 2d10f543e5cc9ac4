//! A job in the foreground: its stops, its end, and the signals that this command gets for it.

use std::process::ExitCode;

use ckptfs_dumper::terminal::Settings;
use ckptfs_dumper::{Doing, InForeground, Pid, Result};
use nix::sys::signal::{Signal, kill, raise};
use rustix::process::{WaitOptions, WaitStatus, waitpid};
use rustix::termios::{tcgetpgrp, tcsetwinsize};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::cli::attach::relay::Relay;
use crate::cli::attach::terminal::OwnTerminal;
use crate::cli::progress::complain;

/// Signals that are passed on to the job.
const PASSED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// A tree that was brought to the terminal.
pub struct Job<'a> {
    root: Pid,
    /// The process group of the root.
    group: Pid,
    terminal: &'a OwnTerminal,
    signals: Signals,
    way: Way,
}

/// How the job has the terminal.
enum Way {
    /// In the session of this command. While the job is stopped: the group that was in the
    /// foreground, and its settings.
    Session(Option<(Pid, Settings)>),
    /// By a pseudo-terminal of its own.
    Relay(Relay),
}

impl<'a> Job<'a> {
    /// The job of `root`. It runs already.
    pub fn new(root: Pid, attached: InForeground, terminal: &'a OwnTerminal) -> Result<Self> {
        // In the caller's session, SIGTSTP stops this command at once, and the shell takes the
        // terminal. A raw one has to be given back before that.
        let caught = attached.pty.as_ref().map(|_| SIGTSTP);
        let all = PASSED.into_iter().chain([SIGCHLD, SIGCONT, SIGWINCH]).chain(caught);
        let signals = Signals::new(all).doing(|| "catching signals")?;
        let way = match attached.pty {
            None => Way::Session(None),
            Some(pty) => {
                if terminal.is_ours()? {
                    terminal.make_raw()?;
                }
                Way::Relay(Relay::start(pty, terminal)?)
            }
        };
        Ok(Self { root, group: attached.group, terminal, signals, way })
    }

    /// Tells the job that it is in the foreground, as a shell does, and that the window is another
    /// one; then waits for its end. Returns the exit status that a shell would show.
    pub fn wait(mut self) -> Result<ExitCode> {
        signal_group(self.group, Signal::SIGCONT);
        unless_failed(self.resized());
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
                    unless_failed(self.stopped(signal));
                }
                continue;
            }
            let pending: Vec<i32> = self.signals.wait().collect();
            for signal in pending {
                match signal {
                    SIGCHLD => {}
                    SIGCONT => unless_failed(self.continued()),
                    SIGWINCH => unless_failed(self.resized()),
                    SIGTSTP => unless_failed(self.told_to_stop()),
                    signal => signal_group(self.group, Signal::try_from(signal).unwrap_or(Signal::SIGTERM)),
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
        signal_group(self.group, Signal::SIGCONT);
        Ok(())
    }

    /// Somebody stops this command while it copies bytes. The job goes on.
    fn told_to_stop(&mut self) -> Result<()> {
        self.terminal.take_back();
        // SIGTSTP itself is caught.
        raise(Signal::SIGTTIN).doing(|| "stopping")?;
        self.continued()
    }

    /// This command goes on. In the foreground it lends the terminal again; `bg` leaves the job in
    /// the background.
    fn continued(&mut self) -> Result<()> {
        // Not ours: the job has it still, or the shell has.
        if !self.terminal.is_ours()? {
            return Ok(());
        }
        match &mut self.way {
            Way::Session(left) => {
                // Nothing is kept if this command was stopped and not the job, such as by SIGSTOP.
                let kept = left.take().map_or_else(|| Ok((self.group, self.terminal.settings()?)), Ok);
                let (group, settings) = kept?;
                self.terminal.lend(group, self.group, &settings)?;
                signal_group(self.group, Signal::SIGCONT);
                Ok(())
            }
            Way::Relay(_) => {
                self.terminal.make_raw()?;
                self.resized()
            }
        }
    }

    /// The window has another size, or is another one.
    fn resized(&self) -> Result<()> {
        let foreground = match &self.way {
            Way::Session(_) => self.terminal.foreground()?,
            Way::Relay(relay) => {
                tcsetwinsize(relay.master(), self.terminal.size()?).doing(|| "the size of the window")?;
                // None while the tree has no foreground group.
                tcgetpgrp(relay.master()).map_or(self.group, |group| group.as_raw_nonzero().get())
            }
        };
        signal_group(foreground, Signal::SIGWINCH);
        Ok(())
    }

    fn finish(self) {
        if let Way::Relay(relay) = self.way {
            relay.finish();
        }
    }
}

/// Signals a process group. That it has ended is seen elsewhere.
fn signal_group(group: Pid, signal: Signal) {
    let _ = kill(nix::unistd::Pid::from_raw(-group), signal);
}

/// The job runs, whatever fails here, and this command waits for its end.
fn unless_failed(done: Result<()>) {
    done.unwrap_or_else(|error| complain(&error));
}

/// 128 and the number of the signal that has killed it, as in a shell. `None`: it has not ended.
fn exit_code(status: WaitStatus) -> Option<ExitCode> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
    Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

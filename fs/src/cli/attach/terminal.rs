//! The controlling terminal of this command: as it was found, lent to a job, taken back.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};

use ckptfs_dumper::terminal::{Settings, own_controlling};
use ckptfs_dumper::{Doing, Error, Kind, Pid, Result};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid as Group, getpgid, getpgrp, getppid};
use rustix::termios::{Winsize, tcgetpgrp, tcgetwinsize, tcsetpgrp};

/// The terminal. A drop gives it back to the group of this command, with the settings that it had.
pub struct OwnTerminal {
    file: File,
    path: PathBuf,
    /// Those of the caller.
    settings: Settings,
    /// Whether a job may have it.
    is_lent: Cell<bool>,
}

impl OwnTerminal {
    /// The controlling terminal, which this command must have in its foreground.
    pub fn open() -> Result<Self> {
        // A program in the background may then change the terminal too. This one does so only to
        // take back what it has lent.
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        ttou.thread_block().doing(|| "blocking SIGTTOU")?;
        let (file, path) = own_controlling()?.ok_or_else(|| {
            let what = "--attach: this command has no controlling terminal (ssh -t and docker run -t give one)";
            Error::new(Kind::System(libc::ENOTTY), what)
        })?;
        let settings = Settings::of(&file)?;
        let terminal = Self { file, path, settings, is_lent: Cell::new(false) };
        if !terminal.is_ours()? {
            let what = "--attach: this command is not in the foreground of its terminal";
            return Err(Error::new(Kind::System(libc::EIO), what));
        }
        // The engine lends it when it has made the job.
        terminal.is_lent.set(true);
        Ok(terminal)
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another descriptor of it.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().doing(|| "duplicating the descriptor of the terminal")
    }

    /// Its size.
    pub fn size(&self) -> Result<Winsize> {
        tcgetwinsize(&self.file).doing(|| format!("window size of {}", self.path.display()))
    }

    /// Its present settings.
    pub fn settings(&self) -> Result<Settings> {
        Settings::of(&self.file)
    }

    /// The group in its foreground.
    pub fn foreground(&self) -> Result<Pid> {
        let group = tcgetpgrp(&self.file).doing(|| format!("foreground of {}", self.path.display()))?;
        Ok(group.as_raw_nonzero().get())
    }

    /// Whether the group of this command is in the foreground.
    pub fn is_ours(&self) -> Result<bool> {
        Ok(self.foreground()? == getpgrp().as_raw_nonzero().get())
    }

    /// Makes it a mere line to another terminal.
    pub fn make_raw(&self) -> Result<()> {
        self.is_lent.set(true);
        Settings::raw(&self.file)?.apply(&self.file)
    }

    /// Lends it to a group of its session, with these settings, or to `other` if that group has
    /// ended.
    pub fn lend(&self, group: Pid, other: Pid, settings: &Settings) -> Result<()> {
        self.is_lent.set(true);
        settings.apply(&self.file)?;
        let lend = |group| Group::from_raw(group).map_or(Ok(()), |group| tcsetpgrp(&self.file, group));
        let doing = || format!("putting group {group} into the foreground of {}", self.path.display());
        lend(group).or_else(|_| lend(other)).doing(doing)
    }

    /// Takes it back, with the settings of the caller.
    pub fn take_back(&self) {
        if self.is_lent.replace(false) && !self.shell_has_it() {
            // It fails if the terminal is gone by now, and then nobody misses it.
            let _ = tcsetpgrp(&self.file, getpgrp());
            let _ = self.settings.apply(&self.file);
        }
    }

    /// Whether the shell has taken it. A shell does so as soon as a job of it stops.
    fn shell_has_it(&self) -> bool {
        let shell = getpgid(getppid()).ok().filter(|shell| *shell != getpgrp());
        shell.is_some() && tcgetpgrp(&self.file).ok() == shell
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

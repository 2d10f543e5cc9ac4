//! The controlling terminal of this command: as it was found, lent to a job, taken back.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ckptfs_dumper::terminal::{Settings, own_controlling};
use ckptfs_dumper::{Doing, Error, Pid, Result};
use nix::sys::signal::{SigSet, Signal};
use rustix::termios::{Winsize, tcgetpgrp, tcgetwinsize, tcsetpgrp};

/// The terminal. A drop gives it back to the group of this command, with the settings that it had.
pub struct CallersTerminal {
    file: File,
    path: PathBuf,
    /// Those of the caller.
    settings: Settings,
    /// Whether a job may have it.
    is_lent: Cell<bool>,
}

impl CallersTerminal {
    /// The controlling terminal, which this command must have in its foreground.
    pub fn open() -> Result<Self> {
        // A program in the background may then change the terminal too. This one does so only to
        // take back what it has lent.
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        ttou.thread_block().doing(|| "blocking SIGTTOU")?;
        let (file, path) = own_controlling()?;
        let settings = Settings::of(&file)?;
        let terminal = Self { file, path, settings, is_lent: Cell::new(false) };
        if !terminal.is_ours()? {
            let what = "--attach: this command is not in the foreground of its terminal";
            return Err(Error::os(what, libc::EIO));
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
        Ok(self.foreground()? == rustix::process::getpgrp().as_raw_nonzero().get())
    }

    /// Makes it a mere line to another terminal.
    pub fn make_raw(&self) -> Result<()> {
        Settings::raw(&self.file)?.apply(&self.file)
    }

    /// Lends it to a group of its session, with these settings.
    pub fn lend(&self, group: Pid, settings: &Settings) -> Result<()> {
        self.is_lent.set(true);
        settings.apply(&self.file)?;
        let lent = rustix::process::Pid::from_raw(group).map(|group| tcsetpgrp(&self.file, group));
        lent.unwrap_or(Ok(())).doing(|| format!("putting group {group} into the foreground of {}", self.path.display()))
    }

    /// Takes it back, with the settings of the caller.
    pub fn take_back(&self) {
        if self.is_lent.replace(false) {
            // It fails if the terminal is gone by now, and then nobody misses it.
            let _ = tcsetpgrp(&self.file, rustix::process::getpgrp());
            let _ = self.settings.apply(&self.file);
            let _ = (&self.file).flush();
        }
    }
}

impl Drop for CallersTerminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

//! Terminals: their device numbers (include/uapi/linux/major.h,
//! Documentation/admin-guide/devices.txt), their settings, new ones.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::termios::{self, SetArg, Termios};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetsid;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::sys::open;
use crate::sys::pid::Pid;
use crate::sys::proc::stat::Stat;

/// Virtual consoles, and serial lines from minor 64 on.
const TTY_MAJOR: u32 = 4;
/// /dev/tty, /dev/console, /dev/ptmx.
const TTYAUX_MAJOR: u32 = 5;
/// Pseudo-terminal slaves, 256 to a major.
const PTY_SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Whether a character device is a terminal.
pub fn is_terminal(device: u64) -> bool {
    let major = libc::major(device);
    PTY_SLAVE_MAJORS.contains(&major) || major == TTY_MAJOR || major == TTYAUX_MAJOR
}

/// The alias for a process's controlling terminal.
const ALIAS: &str = "/dev/tty";

/// Whether it is [`ALIAS`].
pub fn is_alias(device: u64) -> bool {
    (libc::major(device), libc::minor(device)) == (TTYAUX_MAJOR, 0)
}

/// Whether it is a pseudo-terminal master, which is opened as /dev/ptmx.
pub fn is_master(device: u64) -> bool {
    (libc::major(device), libc::minor(device)) == (TTYAUX_MAJOR, 2)
}

/// The name in /dev of a terminal that can control a session. `None` for a device of another major.
pub fn path(device: u64) -> Option<String> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    match major {
        major if PTY_SLAVE_MAJORS.contains(&major) => {
            Some(format!("/dev/pts/{}", (major - PTY_SLAVE_MAJORS.start()) * 256 + minor))
        }
        TTY_MAJOR if minor < 64 => Some(format!("/dev/tty{minor}")),
        TTY_MAJOR => Some(format!("/dev/ttyS{}", minor - 64)),
        _ => None,
    }
}

/// The settings of a terminal, termios(3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// c_iflag.
    input: u32,
    /// c_oflag.
    output: u32,
    /// c_cflag.
    control: u32,
    /// c_lflag.
    local: u32,
    /// c_cc.
    characters: Vec<u8>,
}

impl Settings {
    /// Those of a terminal.
    pub fn of(terminal: &impl AsFd) -> Result<Self> {
        Ok(Self::from(current(terminal)?))
    }

    /// Gives them to a terminal at once. Those of `self` that a terminal cannot have are ignored.
    pub fn apply(&self, terminal: &impl AsFd) -> Result<()> {
        let mut wanted = libc::termios::from(current(terminal)?);
        wanted.c_iflag = self.input;
        wanted.c_oflag = self.output;
        wanted.c_cflag = self.control;
        wanted.c_lflag = self.local;
        for (slot, character) in wanted.c_cc.iter_mut().zip(&self.characters) {
            *slot = *character;
        }
        let set = termios::tcsetattr(terminal, SetArg::TCSANOW, &Termios::from(wanted));
        set.doing(|| "the settings of a terminal")
    }

    /// The same terminal as a mere line: every byte goes through, cfmakeraw of termios(3).
    pub fn raw(terminal: &impl AsFd) -> Result<Self> {
        let mut settings = current(terminal)?;
        termios::cfmakeraw(&mut settings);
        Ok(Self::from(settings))
    }
}

impl From<Termios> for Settings {
    fn from(settings: Termios) -> Self {
        let all = libc::termios::from(settings);
        let (input, output, control, local) = (all.c_iflag, all.c_oflag, all.c_cflag, all.c_lflag);
        Self { input, output, control, local, characters: all.c_cc.to_vec() }
    }
}

/// How a tree has left its terminal.
#[derive(Clone, Debug)]
pub struct TerminalState {
    /// Its settings.
    pub settings: Settings,
    /// The process group in its foreground, if that is known.
    pub foreground: Option<Pid>,
}

fn current(terminal: &impl AsFd) -> Result<Termios> {
    termios::tcgetattr(terminal).doing(|| "asking for the settings of a terminal")
}

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side of the window.
    pub master: OwnedFd,
    /// The side of the programs.
    pub slave: OwnedFd,
    /// The name of that side.
    pub path: PathBuf,
}

/// Opens a new pseudo-terminal, which controls no session.
pub fn open_pty() -> Result<Pty> {
    let doing = || "opening a pseudo-terminal";
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).doing(doing)?;
    grantpt(&master).doing(doing)?;
    unlockpt(&master).doing(doing)?;
    let path = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new()).doing(doing)?.into_bytes()));
    let slave = open::open_terminal(&path)?;
    Ok(Pty { master, slave, path })
}

/// Opens the controlling terminal of this program by its own name, and gives the name. /dev/tty
/// means another terminal in another session.
///
/// `None`: there is none, or it has no name here.
pub fn own_controlling() -> Result<Option<(File, PathBuf)>> {
    let controls = |file: &File| tcgetsid(file).ok() == rustix::process::getsid(None).ok();
    let open = |path: &Path| open::open_terminal(path).map(File::from).ok().filter(controls);
    let device = Stat::read("/proc/self/stat")?.field(7);
    let links = (0..=2).filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok());
    let links = links.filter(|path| path.starts_with("/dev") && path != Path::new(ALIAS));
    let mut names = path(device).map(PathBuf::from).into_iter().chain(links);
    Ok(names.find_map(|path| Some((open(&path)?, path))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_on_another_terminal() {
        let (one, other) = (open_pty().unwrap(), open_pty().unwrap());
        let before = Settings::of(&one.slave).unwrap();
        let raw = Settings::raw(&one.slave).unwrap();
        assert_ne!(raw, before);
        raw.apply(&other.slave).unwrap();
        assert_eq!(Settings::of(&other.slave).unwrap(), raw);
        before.apply(&other.slave).unwrap();
        assert_eq!(Settings::of(&other.slave).unwrap(), before);
        assert_eq!(Settings::of(&one.slave).unwrap(), before);
    }

    #[test]
    fn a_terminal_has_a_name() {
        for (major, minor, name) in [
            (136, 3, Some("/dev/pts/3")),
            (137, 1, Some("/dev/pts/257")),
            (4, 2, Some("/dev/tty2")),
            (4, 64, Some("/dev/ttyS0")),
            (5, 1, None),
        ] {
            let device = libc::makedev(major, minor);
            assert!(is_terminal(device));
            assert_eq!(path(device).as_deref(), name);
        }
        assert!(!is_terminal(libc::makedev(1, 3)));
        assert!(is_alias(libc::makedev(5, 0)) && is_master(libc::makedev(5, 2)));
    }
}

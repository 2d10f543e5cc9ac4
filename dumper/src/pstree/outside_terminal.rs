//! A terminal whose other end is outside the tree, and whether it is still the same at a restore.
//!
//! A number such as that of /dev/pts/3 is given to the next window as soon as it is free. Within
//! one boot the kernel tells two terminals with the same number apart by the time at which their
//! node in devpts was made.

use std::fs::{self, File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Kind, Result};
use crate::options::TerminalRule;
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::stat::Stat;

/// What an image has of a terminal that is outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideTerminal {
    /// The boot in which it existed.
    boot: String,
    /// The filesystem of its node, st_dev: each mount of devpts has its own terminals.
    dev: u64,
    /// The inode number of its node.
    ino: u64,
    /// The last change of owner and mode of its node, or when the node was made: st_ctime, in
    /// seconds and nanoseconds.
    changed: (i64, i64),
    /// The session that it controls, if the job belongs to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionLeader>,
}

/// The leader of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLeader {
    /// Its id.
    pid: Pid,
    /// When it started, in ticks after boot.
    started: u64,
    /// Its name.
    name: String,
}

impl SessionLeader {
    /// The leader of the session of `process`, if the terminal `device` controls that.
    ///
    /// `None`: another terminal does, or none, or the leader has ended or is not visible here.
    pub fn of(process: Pid, device: u64) -> Option<Self> {
        let stat = stat(process).filter(|stat| controls(device, stat))?;
        let pid = stat.field(6) as Pid;
        let leader = self::stat(pid)?;
        Some(Self { pid, started: leader.started(), name: leader.name })
    }

    /// Its id and its name.
    pub fn into_name(self) -> (Pid, String) {
        (self.pid, self.name)
    }

    /// Why it no longer leads the session of the terminal `device`. `None`: it does.
    fn lost(&self, device: u64) -> Option<String> {
        let Self { pid, name, .. } = self;
        match stat(*pid) {
            Some(stat) if stat.started() == self.started && !stat.is_zombie_process() => {
                (!controls(device, &stat)).then(|| format!("it no longer controls the session of pid {pid} ({name})"))
            }
            _ => Some(format!("the leader of its session, pid {pid} ({name}), has ended")),
        }
    }
}

/// The process group in the foreground of the terminal `device`, if that controls the session of
/// `process`.
pub fn foreground_of(process: Pid, device: u64) -> Option<Pid> {
    let stat = stat(process).filter(|stat| controls(device, stat))?;
    Some(stat.field(8) as i64 as Pid).filter(|group| *group > 0)
}

fn stat(pid: Pid) -> Option<Stat> {
    Stat::read(&format!("/proc/{pid}/stat")).ok()
}

/// Whether the terminal with this device number is the controlling one of a process.
fn controls(device: u64, stat: &Stat) -> bool {
    u64::from(stat.field(7) as u32) == device
}

impl OutsideTerminal {
    /// The terminal whose node has these facts. It controls the session of `session`.
    pub fn of(facts: &Metadata, session: Option<SessionLeader>) -> Result<Self> {
        Ok(Self { session, ..Self::node(facts, proc::boot_id()?) })
    }

    fn node(facts: &Metadata, boot: String) -> Self {
        let changed = (facts.ctime(), facts.ctime_nsec());
        Self { boot, dev: facts.dev(), ino: facts.ino(), changed, session: None }
    }

    /// Why the terminal `device`, whose node has the facts `now`, is not provably this one. `None`:
    /// it is. `restored` says whether a process is in the image: the session of a leader that has
    /// ended begins anew with it.
    fn differs(&self, device: u64, now: &Metadata, restored: &dyn Fn(Pid) -> bool) -> Result<Option<String>> {
        let now = Self::node(now, proc::boot_id()?);
        let (then, at) = (show(self.changed), show(now.changed));
        Ok(if self.boot != now.boot {
            Some("the machine was booted since the dump".to_owned())
        } else if (self.dev, self.ino) != (now.dev, now.ino) {
            Some("it is on another mount of devpts than at the dump".to_owned())
        } else if self.changed != now.changed {
            Some(format!("it was opened at {at}, or its owner or mode was changed, and that of the dump at {then}"))
        } else {
            let outside = self.session.as_ref().filter(|session| !restored(session.pid));
            outside.and_then(|session| session.lost(device))
        })
    }
}

/// A time as a person reads it.
fn show((seconds, nanoseconds): (i64, i64)) -> String {
    match jiff::Timestamp::new(seconds, nanoseconds as i32) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// What a restore does about the terminal called `name`, as its caller has decided. `outside` is
/// what the image has of it, and `now` what has the name now (`None`: nothing). `device` and
/// `restored` as in [`OutsideTerminal::differs`]. Returns whether it is opened again; otherwise it
/// is left out.
///
/// # Errors
/// [`Kind::NotFound`]: it is not provably the same, or none is to be opened again.
pub fn is_opened_again(
    rule: TerminalRule,
    name: &str,
    outside: Option<&OutsideTerminal>,
    device: u64,
    now: Option<&Metadata>,
    restored: &dyn Fn(Pid) -> bool,
) -> Result<bool> {
    let refuse = |why: &str| {
        let other =
            "-o terminal=null puts /dev/null in its place, and ckptfs restore --attach the terminal of its caller";
        Err(Error::new(Kind::NotFound, format!("terminal {name} is outside of the tree, and {why}; {other}")))
    };
    let why = match (rule, outside, now) {
        (TerminalRule::Null, ..) => return Ok(false),
        (TerminalRule::Refuse, ..) => "-o terminal=refuse opens none".to_owned(),
        (TerminalRule::Same, _, None) => "it is gone".to_owned(),
        (TerminalRule::Same, None, _) => "the image is too old to tell whether it is the same".to_owned(),
        (TerminalRule::Same, Some(outside), Some(now)) => match outside.differs(device, now, restored)? {
            None => return Ok(true),
            Some(differs) => format!("it is not the same any more: {differs}"),
        },
    };
    refuse(&why)
}

/// Opens the terminal `path` by `open` if `is_it` allows that for what has the name now. `None`: it
/// is left out.
///
/// # Errors
/// Those of `is_it` and of `open`.
pub fn opened_again(
    path: &Path,
    is_it: impl Fn(Option<&Metadata>) -> Result<bool>,
    open: impl FnOnce() -> Result<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    // Asked before it is opened as well: opening another device may have an effect or block.
    if !is_it(fs::metadata(path).ok().as_ref())? {
        return Ok(None);
    }
    let file = File::from(open()?);
    // Another one may have got the name since it was looked at.
    is_it(Some(&file.metadata().doing(|| format!("stat of {}", path.display()))?))?;
    Ok(Some(file.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is said of the terminal with the facts of /dev/null.
    fn said(rule: TerminalRule, outside: Option<&OutsideTerminal>, device: u64, restored: bool) -> String {
        let now = std::fs::metadata("/dev/null").unwrap();
        match is_opened_again(rule, "/dev/pts/3", outside, device, Some(&now), &|_| restored) {
            Ok(opened) => opened.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_what_is_provably_the_same_is_opened_again() {
        let facts = std::fs::metadata("/dev/null").unwrap();
        let same = OutsideTerminal::of(&facts, None).unwrap();
        assert_eq!(said(TerminalRule::Same, Some(&same), 0, false), "true");
        let (seconds, nanoseconds) = same.changed;
        let stranger = SessionLeader { pid: i32::MAX, started: 1, name: "sh".into() };
        let of_another = OutsideTerminal { session: Some(stranger), ..same.clone() };
        for (outside, why) in [
            (OutsideTerminal { boot: "another".into(), ..same.clone() }, "the machine was booted since the dump"),
            (OutsideTerminal { dev: same.dev + 1, ..same.clone() }, "another mount of devpts"),
            (OutsideTerminal { ino: same.ino + 1, ..same.clone() }, "another mount of devpts"),
            (OutsideTerminal { changed: (seconds, nanoseconds ^ 1), ..same.clone() }, "it was opened at "),
            (of_another.clone(), "the leader of its session, pid 2147483647 (sh), has ended"),
        ] {
            let said = said(TerminalRule::Same, Some(&outside), 0, false);
            assert!(said.starts_with("terminal /dev/pts/3 is outside of the tree, and it is not the same"), "{said}");
            assert!(said.contains(why) && said.contains("-o terminal=null"), "{said}");
        }
        assert_eq!(said(TerminalRule::Same, Some(&of_another), 0, true), "true", "its session is restored");
        assert!(said(TerminalRule::Same, None, 0, false).contains("the image is too old"));
        assert!(said(TerminalRule::Refuse, Some(&same), 0, false).contains("-o terminal=refuse opens none"));
        assert_eq!(said(TerminalRule::Null, None, 0, false), "false");
    }

    #[test]
    fn a_session_is_that_of_its_leader_while_the_terminal_controls_it() {
        let this = std::process::id() as Pid;
        let device = u64::from(stat(this).unwrap().field(7) as u32);
        let Some(leader) = SessionLeader::of(this, device) else { return };
        assert_eq!(leader.lost(device), None);
        assert!(leader.lost(device + 1).unwrap().contains("no longer controls"));
        let earlier = SessionLeader { started: leader.started + 1, ..leader };
        assert!(earlier.lost(device).unwrap().contains("has ended"));
        assert_eq!(SessionLeader::of(this, device + 1), None);
    }
}

//! Which processes hold a pipe. The kernel does not report this, so the descriptors of all
//! processes are searched.

use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::sys::kcmp::{self, Kcmp};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::process::runs_this_program;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;

/// A pipe or FIFO, as `st_dev` and `st_ino` number it.
pub type Key = (u64, u64);

/// A descriptor that leads to a pipe.
#[derive(Debug)]
pub struct Holder {
    /// The process that holds it.
    pub pid: Pid,
    /// Its link in /proc.
    pub link: String,
    /// The pipe.
    pub key: Key,
}

impl Holder {
    /// The name of its process.
    pub fn name(&self) -> String {
        proc::read_text(&format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim_end().to_owned()
    }

    /// Whether it is open for reading, and for writing: the permissions of the link
    /// (proc_pid_fd(5)).
    pub fn modes(&self) -> (bool, bool) {
        let mode = fs::symlink_metadata(&self.link).map_or(0, |link| link.mode());
        (mode & 0o400 != 0, mode & 0o200 != 0)
    }
}

/// The first descriptor of `pid` that leads to each of `keys`. A process that ends meanwhile holds
/// none.
pub fn held_by(pid: Pid, keys: &[Key]) -> Vec<Holder> {
    let mut found: Vec<Holder> = Vec::new();
    for dir in tables(pid) {
        for number in proc::numbers(&format!("{dir}/fd")).unwrap_or_default() {
            if let Some(key) = leads_to(&dir, number, keys)
                && found.iter().all(|holder| holder.key != key)
                // Of this program, only the descriptors that it was started with count. Any other
                // is a daemon's, and open only for a moment.
                && (number <= libc::STDERR_FILENO || !runs_this_program(pid as u64))
            {
                found.push(Holder { pid, link: format!("{dir}/fd/{number}"), key });
            }
        }
    }
    found
}

/// The directories of /proc with the descriptor tables of a process. A thread may have its own
/// (unshare(2), CLONE_FILES), and a main thread that has ended has none.
fn tables(pid: Pid) -> Vec<String> {
    let mut dirs = vec![format!("/proc/{pid}")];
    for tid in proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default() {
        if tid != pid && !kcmp::kcmp(pid, tid, Kcmp::Files, 0, 0).unwrap_or(false) {
            dirs.push(format!("/proc/{pid}/task/{tid}"));
        }
    }
    dirs
}

/// The pipe of `keys` that a descriptor leads to. The text of the link is compared first, because
/// stat(2) may wait for a file server that does not answer (or is this daemon).
fn leads_to(dir: &str, number: i32, keys: &[Key]) -> Option<Key> {
    let link = format!("{dir}/fd/{number}");
    let target = fs::read_link(&link).ok()?;
    let target = target.to_str().unwrap_or("/");
    let ino = if let Some(ino) = target.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']')) {
        ino.parse::<u64>().ok()?
    } else if target.starts_with('/') {
        Fields::read(&format!("{dir}/fdinfo/{number}")).ok()?.number("ino")
    } else {
        return None;
    };
    keys.iter().copied().find(|key| key.1 == ino && is(&link, *key))
}

fn is(link: &str, key: Key) -> bool {
    fs::metadata(link).is_ok_and(|stat| (stat.dev(), stat.ino()) == key)
}

/// Whether `pid` existed at `instant` (ticks since boot) outside `tree`. A process that is younger
/// or descends from the tree does not count.
pub fn is_outside(pid: Pid, tree: &[Pid], instant: u64) -> bool {
    let mut at = pid;
    while at > 0 {
        if tree.contains(&at) {
            return false;
        }
        let Ok(stat) = Stat::read(&format!("/proc/{at}/stat")) else { return at != pid };
        if at == pid && stat.started() > instant {
            return false;
        }
        at = stat.ppid();
    }
    true
}

/// A pipe that a process outside the tree held. A restore finds it and does not create it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    dev: u64,
    ino: u64,
    /// The boot in which the numbers are unique.
    boot: String,
}

impl External {
    /// The record of the pipe with this key.
    pub fn of((dev, ino): Key) -> Result<Self> {
        Ok(Self { dev, ino, boot: proc::boot_id()? })
    }

    /// Finds it among the descriptors of all processes. The descriptor is O_PATH only, so that
    /// other processes do not take the restorer for a reader or a writer.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if no process holds it any more.
    pub fn find(&self, shown: &str) -> Result<OwnedFd> {
        let key = (self.dev, self.ino);
        let here = if proc::boot_id()? == self.boot { proc::numbers("/proc")? } else { Vec::new() };
        for holder in here.into_iter().flat_map(|pid| held_by(pid, &[key])) {
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&holder.link);
            if let Ok(file) = opened
                && file.metadata().is_ok_and(|stat| (stat.dev(), stat.ino()) == key)
            {
                return Ok(file.into());
            }
        }
        let gone = "was held outside of the tree, and nobody holds it any more";
        Err(Error::new(Kind::NotFound, format!("{shown} {gone}")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_holder_is_found_by_what_it_holds_and_where_it_descends_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let stat = fifo.metadata().unwrap();
        let keys = [(stat.dev(), stat.ino() + 1), (stat.dev(), stat.ino())];
        let before = clock::boot_ticks();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut child = Command::new("sleep").arg("100").stdin(fifo).stdout(Stdio::piped()).spawn().unwrap();
        let (pid, us) = (child.id() as Pid, std::process::id() as Pid);
        let held = held_by(pid, &keys);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].key, held[0].modes()), (keys[1], (true, false)));
        assert_eq!(held[0].link, format!("/proc/{pid}/fd/0"));
        assert!(held_by(us, &keys).is_empty());
        assert!(is_outside(pid, &[], clock::boot_ticks() + 1));
        assert!(!is_outside(pid, &[], before), "born since");
        assert!(!is_outside(pid, &[us], clock::boot_ticks() + 1), "a child of the tree");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held_by(pid, &keys).is_empty());
    }
}

//! Pipes that processes outside the tree hold. The kernel does not report who holds a pipe, so the
//! descriptors of all processes are searched.
//!
//! The contents of such a pipe stay outside. A restore connects to the same pipe, or to what its
//! caller names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Doing, Error, Kind, Result};
use crate::options::{ExternalPipes, RestoreOptions};
use crate::sys::pid::Pid;
use crate::sys::proc;
use crate::sys::proc::process::runs_this_program;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::proc::tables::descriptor_tables;

/// A pipe or FIFO, as `st_dev` and `st_ino` number it.
pub type Key = (u64, u64);

/// The pipes that are searched for. They are in the order of their inode numbers, so that a
/// descriptor is compared with few of them.
pub struct Keys(Vec<Key>);

impl Keys {
    /// These pipes.
    pub fn of(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort_unstable_by_key(|key| key.1);
        Self(keys)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pipes with this inode number. Each filesystem numbers its own.
    fn with_number(&self, ino: u64) -> impl Iterator<Item = Key> {
        let from = self.0.partition_point(|key| key.1 < ino);
        self.0[from..].iter().copied().take_while(move |key| key.1 == ino)
    }
}

/// A process that holds a pipe.
#[derive(Debug)]
pub struct Holder {
    /// The process.
    pub pid: Pid,
    /// The link in /proc of one of its descriptors.
    pub link: String,
    /// The pipe.
    pub key: Key,
    /// Whether it has the pipe open for reading.
    pub reads: bool,
    /// Whether it has the pipe open for writing.
    pub writes: bool,
}

impl Holder {
    /// The name of the process.
    fn name(&self) -> String {
        proc::read_text(&format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim_end().to_owned()
    }
}

/// The pipes of `keys` that `pid` holds. A process that ends meanwhile holds none.
pub fn held_by(pid: Pid, keys: &Keys) -> Vec<Holder> {
    let mut found: BTreeMap<Key, Holder> = BTreeMap::new();
    for dir in descriptor_tables(pid) {
        for number in proc::numbers(&format!("{dir}/fd")).unwrap_or_default() {
            if let Some(key) = leads_to(&dir, number, keys)
                // Of this program, only the descriptors that it was started with count. Any other
                // is a daemon's, and open only for a moment.
                && (number <= libc::STDERR_FILENO || !runs_this_program(pid as u64))
            {
                let link = format!("{dir}/fd/{number}");
                // The permissions of the link show the access mode (proc_pid_fd(5)).
                let mode = fs::symlink_metadata(&link).map_or(0, |link| link.mode());
                let holder = found.entry(key).or_insert(Holder { pid, link, key, reads: false, writes: false });
                holder.reads |= mode & 0o400 != 0;
                holder.writes |= mode & 0o200 != 0;
            }
        }
    }
    found.into_values().collect()
}

/// The pipe of `keys` that a descriptor leads to. The text of the link is compared first, because
/// stat(2) may wait for a file server that does not answer (or is this daemon).
fn leads_to(dir: &str, number: i32, keys: &Keys) -> Option<Key> {
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
    keys.with_number(ino).find(|key| is(&link, *key))
}

fn is(link: &str, key: Key) -> bool {
    fs::metadata(link).is_ok_and(|stat| (stat.dev(), stat.ino()) == key)
}

/// Whether `pid` existed at `instant` (ticks since boot) outside `tree`. A process that is younger
/// or descends from the tree does not count.
pub fn is_outside(pid: Pid, tree: &BTreeSet<Pid>, instant: u64) -> bool {
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

/// How a restore knows a pipe that processes outside the tree held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    dev: u64,
    ino: u64,
    /// The boot in which the numbers are unique.
    boot: String,
    /// A process outside the tree that held it. 0: not recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pid: Pid,
    /// The name of that process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    /// Whether a process outside the tree had it open for reading.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reads: bool,
    /// Whether a process outside the tree had it open for writing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    writes: bool,
}

fn is_zero(pid: &Pid) -> bool {
    *pid == 0
}

impl External {
    /// The record of the pipe that `holder` holds.
    pub fn of(holder: &Holder) -> Result<Self> {
        let (dev, ino) = holder.key;
        let (pid, name, boot) = (holder.pid, holder.name(), proc::boot_id()?);
        Ok(Self { dev, ino, boot, pid, name, reads: holder.reads, writes: holder.writes })
    }

    /// The record of the same pipe, which `holder` holds as well.
    pub fn held_too(self, holder: &Holder) -> Self {
        Self { reads: self.reads || holder.reads, writes: self.writes || holder.writes, ..self }
    }

    /// Finds it among the descriptors of all processes. The descriptor is O_PATH only, so that
    /// other processes do not take the restorer for a reader or a writer.
    ///
    /// `None`: no process holds it any more, or none of them is at the end that was outside. A
    /// process that waited for the other end would see that this end is closed.
    fn find(&self) -> Result<Option<OwnedFd>> {
        let key = (self.dev, self.ino);
        let keys = Keys::of([key]);
        let here = if proc::boot_id()? == self.boot { proc::numbers("/proc")? } else { Vec::new() };
        let (mut found, mut reads, mut writes) = (None, false, false);
        for holder in here.into_iter().flat_map(|pid| held_by(pid, &keys)) {
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&holder.link);
            if let Ok(file) = opened
                && file.metadata().is_ok_and(|stat| (stat.dev(), stat.ino()) == key)
            {
                (reads, writes) = (reads || holder.reads, writes || holder.writes);
                found = Some(OwnedFd::from(file));
            }
            if found.is_some() && (reads || !self.reads) && (writes || !self.writes) {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A pipe of an image that processes outside the tree held.
pub struct OutsidePipe {
    /// What the image has recorded of it.
    pub external: External,
    /// Its name in sentences.
    pub shown: String,
}

impl OutsidePipe {
    /// Connects the restored processes: to the same pipe if a process still holds it, else to what
    /// the options name. `None`: to a new pipe.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if no process holds the pipe any more, and no option says what to do.
    pub fn connect(&self, options: &RestoreOptions, warn: impl Fn(String)) -> Result<Option<OwnedFd>> {
        let Self { external, shown } = self;
        let ino = external.ino;
        let replacement = options.pipes.get(&ino);
        if let Some(found) = external.find()? {
            if let Some(path) = replacement {
                warn(format!("{shown} is held outside of the tree as before: {} is not used", path.display()));
            }
            return Ok(Some(found));
        }
        if let Some(path) = replacement {
            return open_replacement(path).on(|| format!("-o pipe:{ino}={}", path.display())).map(Some);
        }
        let by = match external.pid {
            0 => String::new(),
            pid => format!(" by pid {pid} ({})", external.name),
        };
        let gone = format!("{shown} was held outside of the tree{by}, and nobody holds it any more");
        match options.external_pipes {
            ExternalPipes::Refuse => {
                let options = format!("-o pipe:{ino}=PATH, or -o external-pipes=null or new");
                Err(Error::new(Kind::NotFound, format!("{gone}; what takes its place is named by {options}")))
            }
            ExternalPipes::Null => {
                warn(format!("{gone}: /dev/null takes its place"));
                open_replacement(Path::new("/dev/null")).map(Some)
            }
            ExternalPipes::New => {
                warn(format!("{gone}: a new pipe takes its place, which has no end outside"));
                Ok(None)
            }
        }
    }
}

/// Finds the file that takes the place of a pipe. It is opened later, in the way in which each
/// descriptor of the pipe was: other processes notice that.
fn open_replacement(path: &Path) -> Result<OwnedFd> {
    let doing = || "opening it";
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).doing(doing)?;
    let kind = file.metadata().doing(doing)?.file_type();
    if kind.is_file() || kind.is_fifo() || kind.is_char_device() {
        return Ok(file.into());
    }
    Err(Error::os("neither a file nor a FIFO nor a character device", libc::EINVAL))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;
    use std::os::fd::AsRawFd;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_holder_is_found_by_what_it_holds_and_where_it_descends_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let stat = fifo.metadata().unwrap();
        let key = (stat.dev(), stat.ino());
        let keys = Keys::of([(key.0, key.1 + 1), key, (key.0 + 1, key.1)]);
        let before = clock::boot_ticks();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut child = Command::new("sleep").arg("100").stdin(fifo).stdout(Stdio::piped()).spawn().unwrap();
        let (pid, us) = (child.id() as Pid, std::process::id() as Pid);
        let held = held_by(pid, &keys);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].key, held[0].reads, held[0].writes), (key, true, false));
        assert_eq!(held[0].link, format!("/proc/{pid}/fd/0"));
        assert!(held_by(us, &keys).is_empty());
        assert!(is_outside(pid, &BTreeSet::new(), clock::boot_ticks() + 1));
        assert!(!is_outside(pid, &BTreeSet::new(), before), "born since");
        assert!(!is_outside(pid, &BTreeSet::from([us]), clock::boot_ticks() + 1), "a child of the tree");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held_by(pid, &keys).is_empty());
    }

    /// A pipe, and a child that holds `end` of it. Descriptors of this program itself do not count.
    fn held(writes: bool) -> (OutsidePipe, Child) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sleep");
        command.arg("100");
        let child =
            if writes { command.stdout(writer.try_clone().unwrap()) } else { command.stdin(reader) }.spawn().unwrap();
        let stat = fs::metadata(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
        let holder = held_by(child.id() as Pid, &Keys::of([(stat.dev(), stat.ino())])).pop().unwrap();
        (OutsidePipe { external: External::of(&holder).unwrap(), shown: "pipe:[1]".into() }, child)
    }

    fn ino(fd: &OwnedFd) -> u64 {
        fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn the_same_pipe_is_found_while_its_other_end_is_held() {
        let options = RestoreOptions::default();
        for writes in [true, false] {
            let (pipe, mut child) = held(writes);
            let found = pipe.connect(&options, |sentence| panic!("{sentence}")).unwrap().unwrap();
            assert_eq!(ino(&found), pipe.external.ino);
            // Without its reader a pipe is of no use to a writer, whoever else holds it.
            let both =
                OutsidePipe { external: External { reads: true, writes: true, ..pipe.external.clone() }, ..pipe };
            let gone = both.connect(&options, |_| {}).unwrap_err();
            assert_eq!(gone.kind(), Kind::NotFound);
            let old = External { reads: false, writes: false, ..both.external.clone() };
            assert!(OutsidePipe { external: old, ..both }.connect(&options, |_| {}).is_ok(), "of an old image");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_takes_the_place_of_a_lost_pipe_is_named_by_the_options() {
        let (pipe, mut child) = held(true);
        child.kill().unwrap();
        child.wait().unwrap();
        let warnings = RefCell::new(Vec::new());
        let connect = |options| pipe.connect(&options, |sentence| warnings.borrow_mut().push(sentence));
        let refused = connect(RestoreOptions::default()).unwrap_err().to_string();
        let named = format!("-o pipe:{}=PATH, or -o external-pipes=null or new", pipe.external.ino);
        assert!(refused.contains(&format!("by pid {} (sleep)", child.id())) && refused.ends_with(&named), "{refused}");
        let policy = |external_pipes| RestoreOptions { external_pipes, ..RestoreOptions::default() };
        let null = connect(policy(ExternalPipes::Null)).unwrap().unwrap();
        assert_eq!(ino(&null), fs::metadata("/dev/null").unwrap().ino());
        assert!(connect(policy(ExternalPipes::New)).unwrap().is_none());
        assert_eq!(warnings.borrow().len(), 2);
        let file = tempfile::NamedTempFile::new().unwrap();
        let by = |path: &Path| RestoreOptions {
            pipes: BTreeMap::from([(pipe.external.ino, path.to_owned())]),
            ..policy(ExternalPipes::Null)
        };
        assert_eq!(ino(&connect(by(file.path())).unwrap().unwrap()), fs::metadata(file.path()).unwrap().ino());
        assert_eq!(warnings.borrow().len(), 2, "what is asked for needs no warning");
        for (path, why) in [("/tmp", "neither a file"), ("/tmp/absent/file", "no such file")] {
            let refused = connect(by(Path::new(path))).unwrap_err().to_string();
            assert!(refused.contains(path) && refused.contains(why), "{refused}");
        }
    }
}

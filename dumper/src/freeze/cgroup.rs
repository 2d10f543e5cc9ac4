//! A cgroup that is frozen (`cgroup.freeze`) while its tasks are being stopped, so that none forks
//! meanwhile.
//!
//! A frozen task makes no system call for the daemon, so the freeze lasts only until ptrace holds
//! all of them, and no longer than [`FROZEN_MOST`] whatever they do. A session that freezes a
//! cgroup takes a turn, among the sessions of this daemon and of others: a lock of a file that only
//! root may open, [`LOCKED`]. A turn lasts until the tasks are collected, because another session
//! that froze them would delay that. Sessions that freeze nothing share their turns. If the daemon
//! is killed in between, a small process of its own thaws the cgroup.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::error::{Doing, Error, Kind, Result};
use crate::freeze::bound::StopBound;
use crate::sys::cgroup;
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::thaw_watchdog::ThawWatchdog;

/// The file of a cgroup with the locks of turns. It can only be written to (0200), so no other user
/// can open it and keep a turn from the daemon. It exists wherever `cgroup.freeze` does.
const LOCKED: &str = "cgroup.kill";

/// How long another daemon may have a cgroup frozen, which is more than [`FROZEN_MOST`]. After that
/// the cgroup counts as frozen on purpose.
const GRACE: Duration = Duration::from_millis(500);

/// How long a cgroup may take until all its tasks are frozen. One that sleeps uninterruptibly is
/// not, and is stopped later.
const FROZEN_WITHIN: Duration = Duration::from_millis(100);

/// How long a cgroup stays frozen at most. Its other tasks must not wait for one that does not
/// stop.
const FROZEN_MOST: Duration = Duration::from_millis(250);

/// The gate to a turn: a lock of the description on the first byte of [`LOCKED`].
const GATE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as libc::c_short,
    l_whence: libc::SEEK_SET as libc::c_short,
    l_start: 0,
    l_len: 1,
    l_pid: 0,
};

/// The right and the means to freeze one cgroup. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CgroupFreezer(Arc<FreezerState>);

#[derive(Debug)]
struct FreezerState {
    dir: PathBuf,
    watchdog: ThawWatchdog,
}

/// A turn. Drop ends it.
#[derive(Debug)]
pub struct FreezeTurn(#[expect(dead_code, reason = "held for its Drop")] Flock<File>);

/// A frozen cgroup; Drop thaws it.
pub struct CgroupFrozen<'a> {
    freezer: &'a FreezerState,
    end: Deadline,
}

/// What a session does to a cgroup in its turn, or may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It freezes all of it, and nobody else has a turn.
    Alone,
    /// It stops single tasks. Others may do the same meanwhile.
    Shared,
}

impl CgroupFreezer {
    /// The freezer of the cgroup at `dir`. `None` if it cannot be frozen: the top one has no
    /// `cgroup.freeze`.
    pub fn new(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join("cgroup.freeze");
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(FreezerState { dir: dir.to_owned(), watchdog: ThawWatchdog::start(&file)? }))))
    }

    /// The processes that it freezes.
    ///
    /// # Errors
    /// One has no number in this pid namespace.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        cgroup::pids(&self.0.dir)
    }

    /// Whether it would freeze this process, or `reader`. The reader waits for this process, and
    /// would not freeze before it has its answer.
    pub fn would_freeze(&self, reader: Option<Pid>) -> bool {
        [Some(std::process::id() as Pid), reader].into_iter().flatten().any(|pid| cgroup::holds(&self.0.dir, pid))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Kind::Busy`]: other sessions have it until the time is up.
    pub(crate) fn turn(&self, bound: &StopBound, turn: Turn) -> Result<FreezeTurn> {
        let path = self.0.dir.join(LOCKED);
        let open = || File::options().write(true).open(&path).doing(|| format!("opening {}", path.display()));
        // Each session passes the gate alone. One that wants the turn for itself keeps the gate
        // shut until it has it, or new ones that share their turns would always come before it.
        let gate = open()?;
        self.lock(bound, || fcntl(&gate, FcntlArg::F_OFD_SETLK(&GATE)).map(drop))?;
        let how = match turn {
            Turn::Alone => FlockArg::LockExclusiveNonblock,
            Turn::Shared => FlockArg::LockSharedNonblock,
        };
        let mut file = Some(open()?);
        let turn = self.lock(bound, || {
            let opened = file.take().ok_or(nix::Error::EBADF)?;
            Flock::lock(opened, how).map_err(|(opened, errno)| {
                file = Some(opened);
                errno
            })
        })?;
        Ok(FreezeTurn(turn))
    }

    /// Tries to lock something of the cgroup until it succeeds.
    fn lock<T>(&self, bound: &StopBound, mut attempt: impl FnMut() -> nix::Result<T>) -> Result<T> {
        let (dir, deadline) = (self.0.dir.display(), bound.deadline());
        loop {
            match attempt() {
                Ok(lock) => return Ok(lock),
                Err(nix::Error::EAGAIN | nix::Error::EACCES | nix::Error::EINTR) if !deadline.is_over() => {
                    bound.check_reader()?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(nix::Error::EAGAIN | nix::Error::EACCES | nix::Error::EINTR) => {
                    let busy = format!("cgroup {dir}: other processes of it are being stopped all the time");
                    return Err(Error::new(Kind::Busy, busy));
                }
                Err(errno) => return Err(errno).doing(|| format!("cgroup {dir}: locking {LOCKED}")),
            }
        }
    }

    /// Freezes it, and returns when all its tasks are frozen, or all but those that sleep
    /// uninterruptibly.
    pub(crate) fn freeze(&self, bound: &StopBound) -> Result<CgroupFrozen<'_>> {
        let FreezerState { dir, watchdog } = &*self.0;
        watchdog.arm(true)?;
        let frozen = CgroupFrozen { freezer: &self.0, end: Deadline::after(FROZEN_MOST) };
        let within = Deadline::after(FROZEN_WITHIN);
        let file = dir.join("cgroup.freeze");
        fs::write(&file, "1").doing(|| format!("writing {}", file.display()))?;
        let events = dir.join("cgroup.events");
        loop {
            let text = fs::read_to_string(&events).doing(|| format!("reading {}", events.display()))?;
            if text.lines().any(|line| line == "frozen 1") || within.is_over() {
                return Ok(frozen);
            }
            bound.check_reader()?;
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl CgroupFrozen<'_> {
    /// Whether it has been frozen for as long as it may be.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_over()
    }
}

impl Drop for CgroupFrozen<'_> {
    fn drop(&mut self) {
        let file = self.freezer.dir.join("cgroup.freeze");
        // A cgroup that this process cannot thaw is left to the watchdog. A cgroup that is gone
        // needs no thaw.
        match fs::write(&file, "0") {
            Ok(()) => drop(self.freezer.watchdog.arm(false)),
            Err(error) => log::error!("thawing {}: {error}", file.display()),
        }
    }
}

/// Refuses tasks of a cgroup that another process has frozen. They would make no call for the
/// daemon before they are thawed.
pub fn refuse_frozen<'p>(pids: impl IntoIterator<Item = &'p Pid>) -> Result<()> {
    let mut paths: BTreeMap<PathBuf, Pid> = BTreeMap::new();
    for pid in pids {
        // A process that has ended meanwhile is in no cgroup.
        if let Ok(Some(path)) = cgroup::path_of(&pid.to_string()) {
            paths.entry(path).or_insert(*pid);
        }
    }
    let deadline = Deadline::after(GRACE);
    for (path, pid) in paths {
        let Some(dir) = cgroup::directory(&path)? else { continue };
        while cgroup::is_frozen(&dir) {
            if deadline.is_over() {
                let frozen = format!(
                    "pid {pid}: its cgroup {} is frozen, and a frozen process cannot be checkpointed: write 0 to cgroup.freeze first",
                    path.display()
                );
                return Err(Error::new(Kind::Busy, frozen));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

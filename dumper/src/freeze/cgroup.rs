//! A cgroup that stands still while its tasks are being stopped, so that nobody forks meanwhile (`cgroup.freeze`).
//!
//! A frozen task makes no system call for us, so this lasts only until ptrace holds everybody. Whoever wants it takes a turn, among the
//! sessions of this daemon and those of others: flock(2) on the cgroup's directory. A turn lasts until the tasks have been looked at, since
//! freezing them for somebody else would hold that up. If the daemon is killed in between, a small process of its own thaws the cgroup.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::cgroup;
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::thaw_watchdog::ThawWatchdog;

/// How long another daemon may have a cgroup frozen before that is taken for somebody's wish.
const GRACE: Duration = Duration::from_millis(250);

/// The right and the means to freeze one cgroup. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CgroupFreezer(Arc<FreezerState>);

#[derive(Debug)]
struct FreezerState {
    dir: PathBuf,
    watcher: ThawWatchdog,
}

/// A turn; over on Drop.
#[derive(Debug)]
pub struct FreezeTurn(#[expect(dead_code, reason = "held for its Drop")] Flock<File>);

/// A cgroup that stands still; goes on on Drop.
pub struct CgroupFrozen<'a>(&'a FreezerState);

impl CgroupFreezer {
    /// Of the cgroup at `dir`; `None` if it cannot be frozen: the top one has no `cgroup.freeze`.
    pub fn new(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join("cgroup.freeze");
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(FreezerState { dir: dir.to_owned(), watcher: ThawWatchdog::start(&file)? }))))
    }

    /// Whether it would freeze this process, or `reader`, which waits for us and would not freeze before we are done.
    pub fn would_freeze(&self, reader: Option<Pid>) -> bool {
        [Some(std::process::id() as Pid), reader].into_iter().flatten().any(|pid| cgroup::holds(&self.0.dir, pid))
    }

    /// Waits for a turn.
    pub(crate) fn turn(&self, deadline: Deadline) -> Result<FreezeTurn> {
        let dir = &self.0.dir;
        let doing = || format!("opening {}", dir.display());
        loop {
            let file = File::open(dir).doing(doing)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(FreezeTurn(lock)),
                Err((_, nix::Error::EWOULDBLOCK | nix::Error::EINTR)) if !deadline.is_over() => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((_, nix::Error::EWOULDBLOCK)) => {
                    let told =
                        format!("cgroup {}: other processes of it are being stopped all the time", dir.display());
                    return Err(Error::new(Kind::Busy, told));
                }
                Err((_, errno)) => return Err(errno).doing(|| format!("locking {}", dir.display())),
            }
        }
    }

    /// Freezes it, and returns when all its tasks stand.
    ///
    /// # Errors
    /// [`Kind::Busy`]: it does not freeze in time (a task that sleeps uninterruptibly), and goes on.
    pub(crate) fn stand_still(&self, deadline: Deadline) -> Result<CgroupFrozen<'_>> {
        let FreezerState { dir, watcher } = &*self.0;
        watcher.arm(true)?;
        let still = CgroupFrozen(&self.0);
        let file = dir.join("cgroup.freeze");
        fs::write(&file, "1").doing(|| format!("writing {}", file.display()))?;
        let events = dir.join("cgroup.events");
        loop {
            let text = fs::read_to_string(&events).doing(|| format!("reading {}", events.display()))?;
            if text.lines().any(|line| line == "frozen 1") {
                return Ok(still);
            }
            if deadline.is_over() {
                return Err(Error::new(Kind::Busy, format!("cgroup {} does not freeze", dir.display())));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Drop for CgroupFrozen<'_> {
    fn drop(&mut self) {
        let file = self.0.dir.join("cgroup.freeze");
        // One that cannot be thawed by us stays the watcher's to thaw; one that is gone needs it no more.
        match fs::write(&file, "0") {
            Ok(()) => drop(self.0.watcher.arm(false)),
            Err(error) => log::error!("thawing {}: {error}", file.display()),
        }
    }
}

/// Refuses tasks whose cgroup somebody has frozen: they would not make a call for us before that somebody thaws it.
pub fn refuse_frozen(pids: &[Pid]) -> Result<()> {
    let mut paths: Vec<(PathBuf, Pid)> = Vec::new();
    for pid in pids {
        // Who ends meanwhile is in none.
        if let Ok(Some(path)) = cgroup::path_of(&pid.to_string())
            && !paths.iter().any(|(known, _)| *known == path)
        {
            paths.push((path, *pid));
        }
    }
    let deadline = Deadline::after(GRACE);
    for (path, pid) in paths {
        let Some(dir) = cgroup::directory(&path)? else { continue };
        while cgroup::is_frozen(&dir) {
            if deadline.is_over() {
                let told = format!(
                    "pid {pid}: its cgroup {} is frozen, and a frozen process cannot be checkpointed: write 0 to cgroup.freeze first",
                    path.display()
                );
                return Err(Error::new(Kind::Busy, told));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

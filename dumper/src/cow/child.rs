//! The copy-on-write child that *is* a snapshot's memory.
//!
//! It is made by one `clone` without an exit signal, so the process's own waits do not report it.
//! It is stopped and traced for its whole life. If it were resumed, its next call would be exit, so
//! it can neither outlive the daemon nor run the program's code. It shares the descriptor table at
//! birth and gets an empty one before its parent goes on, so it never holds a pipe or a lock open.
//! (A mapping holds the open file description that it was made through. Mappings of locked files
//! are unmapped from the child before the parent goes on, other shared ones right after.)

use std::time::Duration;

use crate::cow::reap;
use crate::error::{Doing, Kind, Result};
use crate::sys::clock::Deadline;
use crate::sys::marks::{Mark, Marks};
use crate::sys::memory::{MemFile, RemotePtr};
use crate::sys::mm_map::{MmMap, set_mm_map};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::stat::Stat;
use crate::sys::ptrace::{self, Running, Stopped};
use crate::sys::remote::batch::{Batch, Ticket};
use crate::sys::remote::inject::Injected;
use crate::sys::remote::owned::Owned;
use crate::sys::{errno, wait};

/// How long a new child may take to its next stop.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// How long [`Child::end`] tries to have the child reaped.
const REAPED_WITHIN: Duration = Duration::from_secs(4);

/// How long a parent that could not be stopped within that time is tried in the background. It
/// sleeps uninterruptibly, or the machine is very busy.
const REAPED_AT_LAST: Duration = Duration::from_secs(600);

/// OOM_SCORE_ADJ_MAX, include/uapi/linux/oom.h.
const OOM_FIRST: &str = "1000";

/// A stopped copy-on-write child.
pub struct Child {
    pid: Pid,
    parent: Pid,
    /// Where the stub is in its memory.
    scratch: RemotePtr,
    /// The process that the child is a copy of. Its number alone may belong to another process at
    /// the time of reaping.
    parent_fd: PidFd,
    /// By this mark it is known to other programs. It goes with the child.
    _mark: Option<Mark>,
    /// It is killed only once: after it is reaped, its number may be given to another process.
    killed: bool,
    /// `None` once it is killed or lost.
    task: Option<Stopped>,
}

/// Forks the process that `injected` is in, without the mappings `without`. The child gets a mark.
/// The whole tree must be stopped. A child with a failure is of no use, and is ended like any
/// other.
///
/// # Errors
/// EAGAIN (RLIMIT_NPROC, pids.max) and ENOMEM. The tree must then be read while it is stopped.
pub fn fork(
    injected: &mut Injected<'_>,
    root: Pid,
    without: &[(u64, u64)],
    marks: &Marks,
) -> Result<(Child, Result<()>)> {
    // CLONE_PTRACE: this thread traces the child from birth, and it runs no instruction before this
    // thread resumes it. Not CLONE_FS: with a shared one, setns(2) and the set-user-id bit of exec
    // would fail until the child has its own.
    let flags = (libc::CLONE_PTRACE | libc::CLONE_FILES) as u64;
    let parent_fd = PidFd::open(root)?;
    let pid =
        errno::check(injected.fork(flags, without)?, || format!("pid {root}: making a copy-on-write child"))? as Pid;
    // Before it runs and takes its name: what has the name and no mark is not of this program.
    let mark = marks.mark(pid);
    let born = Running::adopt(pid).wait_or_release(Deadline::after(STOPS_WITHIN))?;
    // The child runs until it shares nothing any more. From there it exits if it is ever detached.
    // This happens before its parent goes on: with a shared descriptor table the parent would lose
    // its POSIX locks at an exec (begin_new_exec in fs/exec.c).
    let mut task = born.cont(0)?.wait_or_release(Deadline::after(STOPS_WITHIN))?;
    // EXITKILL is set only now. A child killed before it has its name becomes a zombie that no
    // later dump can identify, so no dump reaps it. Until this point the child exits on its own.
    task.set_options(ptrace::options::EXITKILL | ptrace::options::SYSGOOD)?;
    task.discard_signal();
    let got = task.regs()?.rbx.cast_signed();
    let (mark, marked) = mark.map_or_else(|error| (None, Err(error)), |mark| (Some(mark), Ok(())));
    let doing = || format!("pid {root}: giving the copy-on-write child a descriptor table of its own");
    let settled = marked.and_then(|()| errno::check(got, doing)).and_then(|_| injected.clean(&MemFile::open(pid)?));
    let scratch = injected.scratch();
    let child = Child { pid, parent: root, scratch, parent_fd, _mark: mark, killed: false, task: Some(task) };
    Ok((child, settled))
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process that it is a copy of.
    pub fn parent(&self) -> Pid {
        self.parent
    }

    /// Makes it the first that is killed when memory runs out, because it makes its process use
    /// more (/proc/PID/oom_score_adj, proc_pid_oom_score_adj(5)).
    pub fn die_first(&self) -> Result<()> {
        let file = format!("/proc/{}/oom_score_adj", self.pid);
        std::fs::write(&file, OOM_FIRST).doing(|| format!("pid {}: writing {file}", self.parent))
    }

    /// Unmaps `ranges` from it.
    ///
    /// # Errors
    /// A sealed mapping (mseal(2)) stays. The others are unmapped.
    pub fn unmap(&mut self, ranges: &[(u64, u64)]) -> Result<()> {
        if ranges.is_empty() {
            return Ok(());
        }
        let (pid, scratch) = (self.pid, self.scratch);
        self.inside(|owned| {
            let mut result = Ok(());
            for some in ranges.chunks(512) {
                let mut batch = Batch::new(scratch);
                let unmapped: Vec<Ticket<u64>> =
                    some.iter().map(|(start, end)| batch.call(libc::SYS_munmap, [*start, end - start])).collect();
                let answers = owned.run(batch)?;
                for ticket in unmapped {
                    let doing = || format!("snapshot child {pid}: giving up a mapping");
                    result = result.and(answers.get(ticket, doing).map(drop));
                }
            }
            Ok(result)
        })
    }

    /// Removes its command line and environment from /proc, so that `pkill -f NAME` finds the
    /// process and not its snapshot. Its memory does not change, only where the kernel looks for
    /// them (PR_SET_MM_MAP, prctl(2)).
    pub fn hide_command_line(&mut self) -> Result<()> {
        let (pid, scratch) = (self.pid, self.scratch);
        self.inside(|owned| {
            let stat = Stat::read(&format!("/proc/{pid}/stat"))?;
            // Code, data, heap (its end is left out, because no reader asks for it), stack,
            // arguments and environment of no length, no auxv.
            let fields = [26, 27, 45, 46, 47, 47, 28, 48, 48, 50, 50].map(|number| stat.field(number));
            let map = MmMap { fields, auxv: (RemotePtr(0), 0), exe: None };
            let mut batch = Batch::new(scratch);
            let at = batch.put(&map.bytes());
            let set = batch.call(libc::SYS_prctl, set_mm_map(at));
            let answers = owned.run(batch)?;
            Ok(answers.get(set, || format!("snapshot child {pid}: hiding its command line")).map(drop))
        })
    }

    /// Makes calls inside it, and leaves it stopped where it was. The outer error means that the
    /// child is lost. In a child that is lost already it does nothing.
    fn inside(&mut self, work: impl FnOnce(&mut Owned) -> Result<Result<()>>) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let (regs, mask) = (task.regs()?, task.sigmask()?);
        let mut owned = Owned::adopt(task, self.scratch, self.pid, self.pid)?;
        let result = work(&mut owned)?;
        self.task = Some(owned.release(&regs, mask)?);
        result
    }

    /// Kills it. It stays a zombie until [`Child::end`].
    pub fn kill(&mut self) {
        if !std::mem::replace(&mut self.killed, true) {
            let _ = wait::kill(self.pid, libc::SIGKILL);
        }
        if let Some(task) = self.task.take() {
            task.forget();
        }
    }

    /// Kills it and makes its parent reap it, in a second, brief stop.
    pub fn end(mut self) {
        let root = self.parent;
        self.kill();
        let deadline = Deadline::after(REAPED_WITHIN);
        while !deadline.is_over() {
            match reap::reap(root, &self.parent_fd, self.pid) {
                Ok(()) => return,
                // A parent that was killed while this thread traced it is a zombie, and this thread
                // still traces it (EPERM) until this thread ends. Its children went to another
                // parent when it died.
                Err(error) if error.kind() == Kind::NoProcess || self.parent_fd.has_ended() => break,
                Err(error) => {
                    log::debug!("pid {root}: reaping snapshot child {}: {error}", self.pid);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        // If the parent is gone, its heir reaps the child, once this thread has waited for it.
        let _ = wait::wait_ended(self.pid, reap::PATIENCE);
        let parent = self.parent_fd.try_clone().ok().filter(|parent| !parent.has_ended());
        if let Some(parent) = parent {
            let child = self.pid;
            log::warn!("pid {root}: it did not stop to reap snapshot child {child}; trying again");
            let reaper = std::thread::Builder::new().name("reaper".into());
            // Without a thread the next dump of the process makes it reap the child.
            let _ = reaper.spawn(move || reap_later(root, &parent, child));
        }
    }
}

/// Makes a parent that could not be stopped in time reap its child, as soon as it can be stopped.
fn reap_later(root: Pid, parent: &PidFd, child: Pid) {
    let deadline = Deadline::after(REAPED_AT_LAST);
    while !deadline.is_over() && !parent.has_ended() {
        match reap::reap(root, parent, child) {
            Ok(()) => return,
            Err(error) => log::debug!("pid {root}: reaping snapshot child {child}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child must never be detached alive.
        self.kill();
    }
}

//! The copy-on-write child that *is* a snapshot's memory.
//!
//! Made by one `clone` with no exit signal, so that the process's own waits never see it; stopped and traced for its whole
//! life, and at a place where going on means to exit, so that it cannot outlive the daemon nor ever run the program's code. It shares the descriptor
//! table at birth and then gets an empty one of its own: it never holds a pipe or a lock open.

use std::time::{Duration, Instant};

use crate::door::Door;
use crate::sys::errno;
use crate::sys::memory::RemotePtr;
use crate::sys::proc::{Fields, Stat};
use crate::sys::ptrace::{self, Running, Stopped};
use crate::sys::query;
use crate::sys::remote::{self, Batch, Call, Injected, Owned};
use crate::{Error, Kind, Pid, Result};

const PATIENCE: Duration = Duration::from_secs(5);
const CLOSE_RANGE_UNSHARE: u64 = 2;

/// A stopped copy-on-write child.
pub struct Child {
    pid: Pid,
    scratch: RemotePtr,
    /// `None` once it is given up.
    task: std::cell::RefCell<Option<Stopped>>,
}

/// Forks the process that `injected` is in. Everybody must be stopped.
///
/// # Errors
/// EAGAIN (RLIMIT_NPROC, pids.max), ENOMEM: then the tree has to be read while stopped.
pub fn fork(injected: &mut Injected<'_>, root: Pid) -> Result<Child> {
    // CLONE_PTRACE: traced from birth, by us; it never runs an instruction unless we say so.
    // Not CLONE_FS: a shared one would make setns(2) and the set-user-id bit of exec fail until the child has its own.
    let flags = (libc::CLONE_PTRACE | libc::CLONE_FILES) as u64;
    let pid = errno::check(injected.fork(flags)?, || format!("pid {root}: making a copy-on-write child"))? as Pid;
    let stopped = Running::adopt(pid).wait_or_release(Instant::now() + PATIENCE)?;
    Ok(Child { pid, scratch: injected.scratch(), task: std::cell::RefCell::new(Some(stopped)) })
}

/// Reaps snapshot children of a daemon that was killed.
pub fn reap_left_behind(injected: &mut Injected<'_>, pids: &[Pid]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(injected.scratch());
    for pid in pids {
        batch.call(libc::SYS_wait4, [*pid as u64, 0, (libc::__WALL | libc::WNOHANG) as u64, 0]);
    }
    injected.run(batch).map(drop)
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Once the process goes on: an empty descriptor table, a session of its own (so that no signal to the process's group
    /// reaches it), no working directory to keep a mount busy.
    pub fn settle(&self) -> Result<()> {
        let Some(task) = self.task.borrow_mut().take() else { return Ok(()) };
        // It runs to where it has its name; from there, should anybody ever detach it, it exits.
        let mut task = task.cont(0)?.wait_or_release(Instant::now() + PATIENCE)?;
        task.swallow_signal();
        task.set_options(ptrace::options::EXITKILL | ptrace::options::SYSGOOD)?;
        let born = task.regs()?;
        let mut owned = Owned::adopt(task, self.scratch, self.pid, self.pid)?;
        let mut batch = Batch::new(self.scratch);
        let root = batch.put_str(b"/");
        batch.call(libc::SYS_close_range, [0, u64::from(u32::MAX), CLOSE_RANGE_UNSHARE]);
        batch.call(libc::SYS_setsid, []);
        batch.call(libc::SYS_chdir, [root.0]);
        let answers = owned.run(batch)?;
        *self.task.borrow_mut() = Some(owned.release(&born, u64::MAX)?);
        answers.get(0, || "giving the copy-on-write child a descriptor table of its own").map(drop)
    }

    fn kill(&self) {
        let _ = query::kill(self.pid, libc::SIGKILL);
        if let Some(task) = self.task.borrow_mut().take() {
            task.forget();
        }
    }

    /// Kills it and has its parent `root` reap it, in a second, brief stop.
    pub fn end(self, root: Pid) {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(4);
        while Instant::now() < deadline {
            match self.reap(root) {
                Ok(()) => return,
                // Killed while we held it, it is a zombie that is still ours (EPERM) and stays one until this thread ends. Its children
                // were handed on when it died.
                Err(error) if error.kind() == Kind::NoProcess || has_ended(root) => break,
                Err(error) => {
                    log::debug!("pid {root}: reaping snapshot child {}: {error}", self.pid);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        // The parent is gone: whoever inherited the child reaps it, once it is no longer ours.
        let _ = query::wait_ended(self.pid);
    }

    fn reap(&self, root: Pid) -> Result<()> {
        let running = ptrace::seize(root, ptrace::options::SYSGOOD)?;
        let stopped = running.wait_or_release(Instant::now() + Duration::from_secs(1))?;
        let mut stopped = match stopped.stop() {
            ptrace::Stop::Signal(signal) => {
                stopped.cont(signal)?.wait_or_release(Instant::now() + Duration::from_secs(1))?
            }
            _ => stopped,
        };
        stopped.forgive_interruption();
        if Fields::read(&format!("/proc/{root}/status"))?.number("Seccomp") != 0 {
            // A filter that was set since: our call is none of its business, and might be the process's last.
            stopped.set_options(ptrace::options::SYSGOOD | ptrace::options::SUSPEND_SECCOMP)?;
        }
        // Only now is the zombie handed on to its parent: before, a wait of the parent's own could have met it.
        let _ = query::wait_ended(self.pid);
        let door = Door::open(root, None)?;
        let wait = Call::new(libc::SYS_wait4, [self.pid as u64, 0, (libc::__WALL | libc::WNOHANG) as u64, 0]);
        let result;
        (stopped, result) = remote::call_once(stopped, &door.mem, &door.entry, &wait)?;
        stopped.detach();
        match result {
            got if got == i64::from(self.pid) => Ok(()),
            // Somebody else has reaped it (a wait with __WALL of its own).
            got if got == -i64::from(libc::ECHILD) => Ok(()),
            got => Err(Error::os(format_args!("wait4 gave {got}"), libc::EAGAIN)),
        }
    }
}

fn has_ended(pid: Pid) -> bool {
    !Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

impl Drop for Child {
    fn drop(&mut self) {
        // Never detached alive, on no path.
        self.kill();
    }
}

//! The copy-on-write child that *is* a snapshot's memory.
//!
//! Made by one `clone` with no exit signal, so that the process's own waits never see it; stopped and traced for its whole
//! life, and at a place where going on means to exit, so that it cannot outlive the daemon nor ever run the program's code. It shares the
//! descriptor table at birth and has an empty one of its own before its parent goes on: it never holds a pipe or a lock open. (A mapping
//! holds the description that it was made through: those of locked files are taken out of it before, other shared ones right after.)

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::freeze::entry::Entry;
use crate::freeze::snapshot_child;
use crate::sys::clock::Deadline;
use crate::sys::memory::RemotePtr;
use crate::sys::mm_map::{MmMap, set_mm_map};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::process::thread_has_ended;
use crate::sys::proc::stat::Stat;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::{self, Running, Stopped};
use crate::sys::remote::batch::{Batch, Call, Ticket};
use crate::sys::remote::hijack;
use crate::sys::remote::inject::Injected;
use crate::sys::remote::owned::Owned;
use crate::sys::{errno, proc, wait};

const PATIENCE: Duration = Duration::from_secs(5);

/// A stopped copy-on-write child.
pub struct Child {
    pid: Pid,
    parent: Pid,
    /// Where the stub is in it.
    scratch: RemotePtr,
    /// The process that it is the memory of: its number alone may be another's by the time of reaping.
    of: PidFd,
    /// Once: when it is reaped its number is anybody's.
    killed: bool,
    /// `None` once it is given up.
    task: Option<Stopped>,
}

/// Forks the process that `injected` is in, but for the mappings `without`. Everybody must be stopped.
///
/// # Errors
/// EAGAIN (RLIMIT_NPROC, pids.max), ENOMEM: then the tree has to be read while stopped.
pub fn fork(injected: &mut Injected<'_>, root: Pid, without: &[(u64, u64)]) -> Result<Child> {
    // CLONE_PTRACE: traced from birth, by us; it never runs an instruction unless we say so.
    // Not CLONE_FS: a shared one would make setns(2) and the set-user-id bit of exec fail until the child has its own.
    let flags = (libc::CLONE_PTRACE | libc::CLONE_FILES) as u64;
    let of = PidFd::open(root)?;
    let pid =
        errno::check(injected.fork(flags, without)?, || format!("pid {root}: making a copy-on-write child"))? as Pid;
    let born = Running::adopt(pid).wait_or_release(Deadline::after(PATIENCE))?;
    // It runs to where it shares nothing any more; from there, should anybody ever detach it, it exits. Before its parent goes on: a
    // shared descriptor table would cost the parent its POSIX locks at an exec (begin_new_exec in fs/exec.c).
    let mut task = born.cont(0)?.wait_or_release(Deadline::after(PATIENCE))?;
    // Not before: who was killed without its name is a zombie that nobody knows as ours, nor reaps. Until here it ends by itself.
    task.set_options(ptrace::options::EXITKILL | ptrace::options::SYSGOOD)?;
    task.discard_signal();
    let got = task.regs()?.rbx.cast_signed();
    let child = Child { pid, parent: root, scratch: injected.scratch(), of, killed: false, task: Some(task) };
    errno::check(got, || format!("pid {root}: giving the copy-on-write child a descriptor table of its own"))?;
    Ok(child)
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

    /// The process that it is the memory of.
    pub fn parent(&self) -> Pid {
        self.parent
    }

    /// Takes mappings out of it.
    pub fn unmap(&mut self, ranges: &[(u64, u64)]) -> Result<()> {
        let Some(task) = self.task.take_if(|_| !ranges.is_empty()) else { return Ok(()) };
        let (regs, mask) = (task.regs()?, task.sigmask()?);
        let mut owned = Owned::adopt(task, self.scratch, self.pid, self.pid)?;
        let mut result = Ok(());
        for some in ranges.chunks(512) {
            let mut batch = Batch::new(self.scratch);
            let unmapped: Vec<Ticket<u64>> =
                some.iter().map(|(start, end)| batch.call(libc::SYS_munmap, [*start, end - start])).collect();
            let answers = owned.run(batch)?;
            for ticket in unmapped {
                let doing = || format!("snapshot child {}: giving up a mapping", self.pid);
                result = result.and(answers.get(ticket, doing).map(drop));
            }
        }
        self.task = Some(owned.release(&regs, mask)?);
        result
    }

    /// Takes its command line and environment out of /proc: `pkill -f NAME` means the process, not what is kept of it. Nothing of the
    /// memory is changed, only where the kernel looks for it (PR_SET_MM_MAP, prctl(2)).
    pub fn hide_command_line(&mut self) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let (regs, mask) = (task.regs()?, task.sigmask()?);
        let stat = Stat::read(&format!("/proc/{}/stat", self.pid))?;
        // Code, data, heap (which is given no end, and is looked for by nobody), stack; arguments and environment of no length; no auxv.
        let fields = [26, 27, 45, 46, 47, 47, 28, 48, 48, 50, 50].map(|number| stat.field(number));
        let map = MmMap { fields, auxv: (RemotePtr(0), 0), exe: None };
        let mut owned = Owned::adopt(task, self.scratch, self.pid, self.pid)?;
        let mut batch = Batch::new(self.scratch);
        let at = batch.put(&map.bytes());
        let set = batch.call(libc::SYS_prctl, set_mm_map(at));
        let answers = owned.run(batch)?;
        self.task = Some(owned.release(&regs, mask)?);
        answers.get(set, || format!("snapshot child {}: hiding its command line", self.pid)).map(drop)
    }

    /// Kills it. It is a zombie until [`Child::end`].
    pub fn kill(&mut self) {
        if !std::mem::replace(&mut self.killed, true) {
            let _ = wait::kill(self.pid, libc::SIGKILL);
        }
        if let Some(task) = self.task.take() {
            task.forget();
        }
    }

    /// Kills it and has its parent reap it, in a second, brief stop.
    pub fn end(mut self) {
        let root = self.parent;
        self.kill();
        let deadline = Deadline::after(Duration::from_secs(4));
        while !deadline.is_over() {
            match reap(root, &self.of, self.pid) {
                Ok(()) => return,
                // Killed while we held it, it is a zombie that is still ours (EPERM) and stays one until this thread ends. Its children
                // were handed on when it died.
                Err(error) if error.kind() == Kind::NoProcess || self.of.has_ended() => break,
                Err(error) => {
                    log::debug!("pid {root}: reaping snapshot child {}: {error}", self.pid);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        // The parent is gone: whoever inherited the child reaps it, once it is no longer ours.
        let _ = wait::wait_ended(self.pid, PATIENCE);
    }
}

/// Has `root` reap those of its snapshot children that could not be while it was held.
pub fn reap_ended(root: Pid) -> Result<()> {
    for pid in snapshot_child::left_behind(root) {
        reap(root, &PidFd::open(root)?, pid)?;
    }
    Ok(())
}

/// Has the process `of`, whose id is `root`, reap its child `pid`, which was killed, in a brief stop.
fn reap(root: Pid, of: &PidFd, pid: Pid) -> Result<()> {
    if of.has_ended() {
        return Err(Error::new(Kind::NoProcess, format!("pid {root} has ended")));
    }
    let tid = first_thread(root);
    let running = ptrace::seize(tid, ptrace::options::SYSGOOD)?;
    let stopped = running.wait_or_release(Deadline::after(Duration::from_secs(1)))?;
    let mut stopped = match stopped.stop() {
        ptrace::Stop::Signal(signal) => {
            stopped.cont(signal)?.wait_or_release(Deadline::after(Duration::from_secs(1)))?
        }
        _ => stopped,
    };
    stopped.restart_interrupted_call();
    if Fields::read(&format!("/proc/{tid}/status"))?.number("Seccomp") != 0 {
        // A filter that was set since: our call is none of its business, and might be the process's last.
        stopped.set_options(ptrace::options::SYSGOOD | ptrace::options::SUSPEND_SECCOMP)?;
    }
    // Only now is the zombie handed on to its parent: before, a wait of the parent's own could have met it.
    let _ = wait::wait_ended(pid, PATIENCE);
    let door = Entry::open(tid, None)?;
    let wait = Call::new(libc::SYS_wait4, [pid as u64, 0, (libc::__WALL | libc::WNOHANG) as u64, 0]);
    let result;
    (stopped, result) = hijack::call_once(stopped, &door.mem, &door.entry, &wait)?;
    stopped.detach();
    match result {
        got if got == i64::from(pid) => Ok(()),
        // Somebody else has reaped it (a wait with __WALL of its own).
        got if got == -i64::from(libc::ECHILD) => Ok(()),
        got => Err(Error::os(format_args!("wait4 gave {got}"), libc::EAGAIN)),
    }
}

/// The main thread, or another one if that has ended (pthread_exit(3) in main) while the process lives.
fn first_thread(pid: Pid) -> Pid {
    let tids = proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default();
    std::iter::once(pid).chain(tids).find(|tid| !thread_has_ended(pid, *tid)).unwrap_or(pid)
}

impl Drop for Child {
    fn drop(&mut self) {
        // Never detached alive, on no path.
        self.kill();
    }
}

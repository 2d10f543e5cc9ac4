//! Reaping of killed copy-on-write children. The parent, which is the process that the child is a
//! copy of, reaps it.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::freeze::entry::Entry;
use crate::freeze::snapshot_child;
use crate::sys::clock::Deadline;
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::process::thread_has_ended;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Regs;
use crate::sys::remote::batch::{Batch, Call};
use crate::sys::remote::inject::Injected;
use crate::sys::remote::once;
use crate::sys::restarted_call::RestartedCall;
use crate::sys::{proc, ptrace, wait};

/// How long a killed child may take to end. It is stopped, and all it has to do is exit.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long the parent may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(1);

/// Makes the process that `injected` is in reap its snapshot children `pids`. A killed daemon left
/// them behind.
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

/// Makes `root` reap those of its snapshot children that could not be reaped while it was held.
pub fn reap_ended(root: Pid) -> Result<()> {
    for pid in snapshot_child::left_behind(root) {
        reap(root, &PidFd::open(root)?, pid)?;
    }
    Ok(())
}

/// Makes the process `of`, with the id `root`, reap its killed child `pid` in a brief stop.
pub fn reap(root: Pid, of: &PidFd, pid: Pid) -> Result<()> {
    if of.has_ended() {
        return Err(Error::new(Kind::NoProcess, format!("pid {root} has ended")));
    }
    let tid = first_thread(root);
    // Only a running thread shows it.
    let restarted = RestartedCall::of(root, tid);
    let running = ptrace::seize(tid, ptrace::options::SYSGOOD)?;
    let stopped = running.wait_or_release(Deadline::after(STOPS_WITHIN))?;
    let mut stopped = match stopped.stop() {
        ptrace::Stop::Signal(signal) => stopped.cont(signal)?.wait_or_release(Deadline::after(STOPS_WITHIN))?,
        _ => stopped,
    };
    stopped.restart_interrupted_call();
    if Fields::read(&format!("/proc/{tid}/status"))?.number("Seccomp") != 0 {
        // The program may have set a filter since the dump. The injected call is not the program's
        // own, and the filter might kill the process for it.
        stopped.set_options(ptrace::options::SYSGOOD | ptrace::options::SUSPEND_SECCOMP)?;
    }
    // The zombie goes to its parent only now, when the parent is stopped. Earlier a wait of the
    // parent's own could have reported it.
    let _ = wait::wait_ended(pid, PATIENCE);
    let entry = Entry::open(tid, None)?;
    let wait = Call::new(libc::SYS_wait4, [pid as u64, 0, (libc::__WALL | libc::WNOHANG) as u64, 0]);
    let result;
    let call_of = |regs: &Regs| RestartedCall::number_of(restarted, regs);
    (stopped, result) = once::call_once(stopped, &entry.mem, &entry.entry, call_of, &wait)?;
    stopped.detach();
    match result {
        got if got == i64::from(pid) => Ok(()),
        // The program has reaped it already, with a wait of its own (__WALL).
        got if got == -i64::from(libc::ECHILD) => Ok(()),
        got => Err(Error::os(format_args!("wait4 gave {got}"), libc::EAGAIN)),
    }
}

/// The main thread, or another one if the main thread has ended (pthread_exit(3) in main) while the
/// process lives.
fn first_thread(pid: Pid) -> Pid {
    let tids = proc::numbers(&format!("/proc/{pid}/task")).unwrap_or_default();
    std::iter::once(pid).chain(tids).find(|tid| !thread_has_ended(pid, *tid)).unwrap_or(pid)
}

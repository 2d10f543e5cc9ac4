//! What cannot be checkpointed, and why.

use crate::error::{Error, Result};
use crate::freeze::frozen::{Frozen, FrozenProcess};
use crate::refusals::Refusals;
use crate::sys::pid::Pid;
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Stopped;
use crate::task::creds;
use crate::task::namespaces::Namespaces;

/// Refuses trees that cannot be restored yet. The error names the reason.
pub fn refuse_unsupported(frozen: &Frozen) -> Result<()> {
    let root = frozen.alive().next().and_then(|root| root.threads.first()).map_or(0, Stopped::tid);
    let namespaces = Namespaces::for_tree(root);
    for process in frozen.alive() {
        refuse_one(process, &namespaces)?;
    }
    Ok(())
}

pub fn refuse_one(process: &FrozenProcess, namespaces: &Namespaces) -> Result<()> {
    let pid = process.pid;
    let tids: Vec<Pid> = process.threads.iter().map(Stopped::tid).collect();
    refuse_visible(pid, &tids, namespaces, &mut Refusals::first())?;
    for thread in &process.threads {
        if thread.syscall_user_dispatch()? {
            let tid = thread.tid();
            return Err(Error::unsupported(format!(
                "pid {pid} task {tid}: syscall user dispatch cannot be checkpointed"
            )));
        }
    }
    Ok(())
}

/// Refuses what /proc shows of a process, also of one that runs. `tids` are its threads that have
/// not ended.
pub fn refuse_visible(pid: Pid, tids: &[Pid], namespaces: &Namespaces, refusals: &mut Refusals) -> Result<()> {
    namespaces.refuse_others(pid, tids.iter().copied(), refusals)?;
    refusals.sift(refuse_label(pid, tids.first().copied().unwrap_or(pid)))?;
    // This is checked before the first call is made inside: a filter would apply to that call, and
    // may kill the process.
    for tid in tids {
        let status = Fields::read(&format!("/proc/{pid}/task/{tid}/status"));
        refusals.sift(status.and_then(|status| creds::refuse_filtered(pid, *tid, &status)))?;
    }
    Ok(())
}

/// Refuses a confined process. It would come back with the daemon's own label and so with more
/// rights than before.
fn refuse_label(pid: Pid, speaker: Pid) -> Result<()> {
    let label = |pid: &str| std::fs::read(format!("/proc/{pid}/attr/current")).ok();
    let (its, ours) = (label(&speaker.to_string()), label("self"));
    if its == ours {
        return Ok(());
    }
    let shown = its.unwrap_or_default();
    let shown = String::from_utf8_lossy(&shown);
    Err(Error::unsupported(format!(
        "pid {pid}: security label {} is not the daemon's and cannot be checkpointed yet",
        shown.trim_end_matches(['\n', '\0'])
    )))
}

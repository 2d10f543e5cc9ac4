//! What cannot be checkpointed, and why.

use crate::error::{Error, Result};
use crate::freeze::frozen::{Frozen, FrozenProcess};
use crate::sys::proc::status::Fields;
use crate::sys::ptrace::Stopped;
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
    let root = process.pid;
    namespaces.refuse_others(root, process.threads.iter().map(Stopped::tid))?;
    let speaker = process.threads.first().map_or(root, Stopped::tid);
    // A confined process would come back with the daemon's own label and so with more rights than
    // before.
    let label = |pid: &str| std::fs::read(format!("/proc/{pid}/attr/current")).ok();
    let (its, ours) = (label(&speaker.to_string()), label("self"));
    if its != ours {
        let shown = its.unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown);
        return Err(Error::unsupported(format!(
            "pid {root}: security label {} is not the daemon's and cannot be checkpointed yet",
            shown.trim_end_matches(['\n', '\0'])
        )));
    }
    // This is checked before the first call is made inside: a filter would apply to that call, and
    // may kill the process.
    for thread in &process.threads {
        let tid = thread.tid();
        if Fields::read(&format!("/proc/{root}/task/{tid}/status"))?.number("Seccomp") != 0 {
            return Err(Error::unsupported(format!("pid {root} task {tid}: seccomp cannot be checkpointed yet")));
        }
        if thread.syscall_user_dispatch()? {
            return Err(Error::unsupported(format!(
                "pid {root} task {tid}: syscall user dispatch cannot be checkpointed"
            )));
        }
    }
    Ok(())
}

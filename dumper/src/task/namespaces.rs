//! Namespaces: a thread may have others than its process (unshare(2), setns(2)), and others still for its children. None is in the image:
//! everybody comes back in those of the daemon.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::sys::pid::Pid;

/// Those that all threads of a process have in common: the kernel gives another one only to who is alone in his process.
const OF_PROCESS: [&str; 3] = ["pid", "user", "time"];

/// Those that each thread can have for itself.
const OF_THREAD: [&str; 7] = ["mnt", "net", "ipc", "uts", "cgroup", "pid_for_children", "time_for_children"];

/// The daemon's own.
pub struct Namespaces {
    of_process: [Option<PathBuf>; 3],
    of_thread: [Option<PathBuf>; 7],
}

/// The name and number of one, `net:[4026531840]`; `None` on a kernel without.
fn of(task: &str, space: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{task}/ns/{space}")).ok()
}

impl Namespaces {
    /// Looks.
    pub fn own() -> Self {
        let own = |space| of("self", space);
        Self { of_process: OF_PROCESS.map(own), of_thread: OF_THREAD.map(own) }
    }

    /// Refuses who is in another one. To be known before anything is done inside: the first child of whoever has left his pid namespace by
    /// unshare(2) is the init of the new one, and when a copy-on-write child was that, its end lets nobody be born there any more.
    pub fn refuse_others(&self, pid: Pid, tids: impl Iterator<Item = Pid>) -> Result<()> {
        for (at, tid) in tids.enumerate() {
            let task = format!("{pid}/task/{tid}");
            let refuse_other = |(space, own): (&&str, &Option<PathBuf>)| match of(&task, space) == *own {
                true => Ok(()),
                false => Err(Error::unsupported(format!(
                    "pid {pid} task {tid}: in another {space} namespace than the daemon, which cannot be checkpointed yet"
                ))),
            };
            if at == 0 {
                OF_PROCESS.iter().zip(&self.of_process).try_for_each(refuse_other)?;
            }
            OF_THREAD.iter().zip(&self.of_thread).try_for_each(refuse_other)?;
        }
        Ok(())
    }
}
